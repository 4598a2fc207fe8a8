"""What is written can be read back by TensorBoard itself, without TensorFlow."""

import errno
import logging
import os
import subprocess
import sys
import time
import types

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from akorn_jax.errors import UserError
from akorn_jax.runtime import writers
from akorn_jax.runtime.writers import metric_writers, periodic_actions


def read(directory):
    sizes = {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0}
    accumulator = EventAccumulator(str(directory), size_guidance=sizes)
    accumulator.Reload()
    return accumulator


def points(directory, name):
    return [(event.step, event.value) for event in read(directory).Scalars(name)]


def test_every_kind_is_read_back(tmp_path):
    writer = writers.create_writer(tmp_path / "run")
    image = np.linspace(-0.5, 1.5, 5 * 8 * 6 * 3).reshape(5, 8, 6, 3)
    writer.write_hparams({"seed": 1, "model": {"channels": 8, "sizes": (1, 2)}})
    writer.write_scalars(3, {"train/loss": jnp.float32(0.5), "train/lr": 1e-3})
    writer.write_scalars(4, {"train/loss": np.float64(0.25)})
    writer.write_images(4, {"one": np.full((8, 6, 3), 7, np.uint8), "grid": image})
    writer.write_texts(4, {"config": "seed: 1"})
    writer.write_histograms(4, {"w": jnp.array([0.0, 1.0, 2.0, jnp.nan]), "none": jnp.zeros(0)})
    writer.close()

    seen = read(tmp_path / "run")
    assert points(tmp_path / "run", "train/loss") == [(3, 0.5), (4, 0.25)]
    assert seen.Scalars("train/lr")[0].value == pytest.approx(1e-3)
    one, grid = seen.Images("one")[0], seen.Images("grid")[0]
    assert (one.step, one.height, one.width) == (4, 8, 6)
    assert grid.height >= 2 * 8
    assert grid.width >= 3 * 6
    assert seen.Histograms("w")[0].histogram_value.num == 3
    assert "none" not in seen.Tags()["histograms"]
    assert seen.Tensors("config/text_summary")[0].tensor_proto.string_val == [b"seed: 1"]
    assert "hparams" in str(seen.SummaryMetadata("_hparams_/session_start_info"))


def test_an_image_keeps_its_colours(tmp_path):
    from PIL import Image

    pixels = np.zeros((4, 4, 3), np.float32)
    pixels[:2, :, 0], pixels[2:, :, 1] = 1.0, 2.0
    writer = writers.create_writer(tmp_path)
    writer.write_images(1, {"image": pixels})
    writer.close()
    encoded = read(tmp_path).Images("image")[0].encoded_image_string
    (tmp_path / "image.png").write_bytes(encoded)
    decoded = np.asarray(Image.open(tmp_path / "image.png"))
    np.testing.assert_array_equal(decoded, 255 * np.clip(pixels, 0, 1))


def test_no_step_is_there_twice_after_a_resume(tmp_path):
    first = writers.create_writer(tmp_path)
    for step in (100, 200, 300):
        first.write_scalars(step, {"loss": step})
    first.close()
    # Killed; the newest checkpoint is of step 200.
    second = writers.create_writer(tmp_path, first_step=200)
    second.write_scalars(300, {"loss": 301})
    second.close()
    assert points(tmp_path, "loss") == [(100, 100), (200, 200), (300, 301)]


def test_a_killed_run_loses_nothing(tmp_path):
    program = (
        "import os, signal, sys; from akorn_jax.runtime import writers\n"
        "writer = writers.create_writer(sys.argv[1])\n"
        "writer.write_scalars(1, {'loss': 2.0}); writer.flush()\n"
        "assert 'tensorflow' not in sys.modules\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, tmp_path]
    assert subprocess.run(command, timeout=120, check=False).returncode == -9
    assert points(tmp_path, "loss") == [(1, 2.0)]


class FullDisk:
    """A file that takes half a record, then nothing, until there is room again."""

    def __init__(self, file):
        self.file, self.full = file, False

    def write(self, data):
        if not self.full:
            return self.file.write(data)
        if len(data) > 20:
            return self.file.write(data[: len(data) - 20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_costs_records_and_one_warning(tmp_path, caplog):
    writer = writers.SummaryWriter(tmp_path)
    writer._file = FullDisk(writer._file)
    writer.write_scalars(1, {"loss": 1.0})
    size = next(tmp_path.iterdir()).stat().st_size
    writer._file.full = True
    writer.write_scalars(2, {"loss": 2.0})
    writer.write_scalars(3, {"loss": 3.0})
    assert next(tmp_path.iterdir()).stat().st_size == size
    writer._file.full = False
    writer.write_scalars(4, {"loss": 4.0})
    writer.close()
    assert points(tmp_path, "loss") == [(1, 1.0), (4, 4.0)]
    assert caplog.text.count("No space left on device") == 1


def test_tensorflow_is_not_imported():
    assert "tensorflow" not in sys.modules


def test_log_lines(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    writer = writers.create_writer(tmp_path, just_logging=True)
    writer.write_scalars(7, {"train/loss": jnp.float32(0.123456), "a": 1})
    writer.write_histograms(7, {"w": jnp.ones(3)})
    writer.close()
    assert "step 7: a 1, train/loss 0.12346" in caplog.text
    assert "step 7: wrote 1 histograms (w ...)" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_clu_uses_it(tmp_path):
    clu_writer = metric_writers.create_default_writer(tmp_path, asynchronous=False)
    called = []
    callback = periodic_actions.PeriodicCallback(
        every_steps=2, callback_fn=lambda step, t: called.append(step)
    )
    report = periodic_actions.ReportProgress(
        num_train_steps=6, writer=clu_writer, every_steps=3, every_secs=None
    )
    for step in range(1, 7):
        callback(step)
        report(step)
        time.sleep(0.01)
    report._executor.shutdown()
    clu_writer.close()
    assert called == [2, 4, 6]
    assert [step for step, _ in points(tmp_path, "steps_per_sec")] == [3, 6]


def fake_wandb(calls):
    """The part of wandb that is used, noting the calls."""

    class Run:
        config = types.SimpleNamespace(update=lambda *a, **k: calls.append(("config", a[0])))

        def log(self, values):
            calls.append(values)

        def define_metric(self, name, step_metric):
            calls.append((name, step_metric))

        def finish(self):
            calls.append("finish")

    module = types.ModuleType("wandb")
    module.init = lambda **options: calls.append(options) or Run()
    module.Image = lambda image: ("image", image.shape)
    module.Histogram = lambda values, num_bins: ("histogram", values.size, num_bins)
    module.Html = lambda text: ("html", text)
    return module


def test_wandb_is_behind_the_same_interface(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(calls))
    for _ in range(2):
        writer = writers.create_writer(tmp_path, wandb_project="objects")
        writer.write_hparams({"model": {"channels": 8}})
        writer.write_scalars(1, {"loss": jnp.float32(0.5)})
        writer.write_images(1, {"x": np.zeros((2, 4, 4, 3))})
        writer.write_histograms(1, {"w": np.ones(5)})
        writer.close()
    assert calls[0]["project"] == "objects"
    assert calls[0]["resume"] == "allow"
    assert calls[1:7] == [
        ("*", "step"),  # points of earlier steps may come later
        ("config", {"model/channels": 8}),
        {"step": 1, "loss": 0.5},
        {"step": 1, "x": [("image", (4, 4, 3))] * 2},
        {"step": 1, "w": ("histogram", 5, 30)},
        "finish",
    ]
    assert calls[7]["id"] == calls[0]["id"]


def test_wandb_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"wandb_project='objects': .*not installed") as error:
        writers.create_writer(tmp_path, wandb_project="objects")
    assert "pip install 'akorn-jax[train]'" in str(error.value)
    assert "\n" not in str(error.value)
