"""Files are whole or not there, also on `gs://`: here a bucket in memory, as fsspec gives one."""

import errno

import numpy as np
import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from akorn_jax import evaluate, run_config
from akorn_jax.data.records import Examples
from akorn_jax.evaluation.result import Result
from akorn_jax.runtime import provenance, storage, writers
from akorn_jax.training import checksums
from akorn_jax.training.nonfinite import NonFiniteGuard


class Bucket(MemoryFileSystem):
    """What gcsfs is to epath, in memory."""

    protocol = "gs"
    store, pseudo_dirs = {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("gs:/"))


@pytest.fixture
def bucket(monkeypatch):
    """`gs://bucket/run`, empty."""
    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", {"gcs": Bucket()}.get)
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    return epath.Path("gs://bucket/run")


@pytest.fixture(params=["local", "bucket"])
def workdir(request, tmp_path):
    return epath.Path(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")


def test_a_file_is_replaced_at_once(workdir):
    run_config.make_directory(workdir)
    for content in (b"first", b"second"):
        storage.write(workdir / "file", content)
        assert (workdir / "file").read_bytes() == content
    assert [path.name for path in workdir.iterdir()] == ["file"]
    storage.remove(workdir / "file")
    storage.remove(workdir / "file")  # which is gone
    assert not (workdir / "file").exists()


def test_a_run_keeps_its_papers(workdir, tiny):
    run_config.save(tiny, workdir)
    run_config.check_same(tiny, workdir)
    assert run_config.from_workdir(workdir).model.channels == 8
    for arguments in (["--config=a.py"], ["--config=b.py"]):
        provenance.record(workdir, arguments)
    commands = [start["command"] for start in provenance.read(workdir)]
    assert commands == ["python launch.py --config=a.py", "python launch.py --config=b.py"]
    noted = NonFiniteGuard(2, workdir / "nonfinite.json", np.arange(9), lambda: "")
    for step in (1, 2):
        noted(step, float("nan"), 1.0, np.array([3]))
    assert (workdir / "nonfinite.json").read_text().count("records") == 2


def test_an_evaluation_is_written(workdir):
    images, labels = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)
    labels[:, :4] = 1
    scores = {"fg_ari": np.array([0.5, 1.0]), "mbo": np.array([0.25, 0.75])}
    found = Result({"mbo": 0.5}, {"mbo": "mBO"}, {}, per_image=scores, labels=labels)
    examples = Examples(images, labels, {}, np.arange(2), np.ones(2))
    evaluate.write(workdir, {"step": 3}, found, examples, suffix="")
    assert (workdir / "metrics.json").read_text() == '{\n  "step": 3\n}\n'
    with (workdir / "metrics_per_image.npz").open("rb") as file:
        np.testing.assert_array_equal(np.load(file)["mbo"], [0.25, 0.75])
    assert (workdir / "figures" / "segmentation.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_finds_what_was_flushed(workdir, tmp_path):
    writer = writers.SummaryWriter(workdir)
    writer.write_scalars(1, {"train/loss": 2.0})
    writer.flush()
    writer.write_scalars(2, {"train/loss": 1.0})
    writer.close()
    (events,) = workdir.glob("events.out.tfevents.*")
    copy = tmp_path / "copy" / events.name
    copy.parent.mkdir()
    copy.write_bytes(events.read_bytes())
    found = EventAccumulator(str(copy.parent)).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in found] == [(1, 2.0), (2, 1.0)]


def test_damage_to_a_directory_is_found(workdir):
    for name in ("120/state/array", "120/extra/metadata"):
        (workdir / name).parent.mkdir(parents=True, exist_ok=True)
        (workdir / name).write_bytes(b"x" * 1000)
    checksums.begin(workdir, "120")
    assert checksums.incomplete(workdir, "120")
    checksums.write(workdir, "120", ".tmp")
    assert not checksums.incomplete(workdir, "120")
    assert checksums.damage(workdir, "120") is None
    (workdir / "120/state/array").write_bytes(b"x" * 999 + b"y")
    assert "120/state/array has changed" in checksums.damage(workdir, "120")
    storage.remove(workdir / "120")
    assert not (workdir / "120").exists()


def test_who_is_storage_error():
    assert storage.is_storage_error(OSError(errno.ENOSPC, "full"))
    assert storage.is_storage_error(ValueError("... [source locations='...'] os_error_code='122'"))
    assert not storage.is_storage_error(OSError(errno.EACCES, "permission"))
    assert not storage.is_storage_error(ValueError("bad shape"))
