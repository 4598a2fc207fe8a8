"""Files of weights and of runs, damaged at random: read, or one line that names the file."""

import importlib.util
import json

import numpy as np
import pytest
from etils import epath
from safetensors.numpy import save_file

from akorn_jax import run_config
from akorn_jax.convert import files
from akorn_jax.errors import UserError
from akorn_jax.report import run as runs
from akorn_jax.runtime import provenance, writers
from configs import demo
from tests.mutants import mutants

ARRAYS = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "a.bias": np.ones(3)}


def line(error: UserError) -> str:
    message = str(error)
    assert message
    assert "\n" not in message
    assert message.isprintable()
    return message


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".npz", ".safetensors", ".pth"])
def test_weights(kind, tmp_path):
    path = tmp_path / f"weights{kind}"
    if kind == ".npz":
        np.savez(path, **ARRAYS)
    elif kind == ".safetensors":
        save_file(ARRAYS, path)
    elif importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    else:
        import torch

        torch.save({name: torch.tensor(array) for name, array in ARRAYS.items()}, path)
    refused = []
    for mutant in mutants(path.read_bytes(), 1500):
        path.write_bytes(mutant)
        try:
            arrays, _ = files.read(path)
            assert all(isinstance(array, np.ndarray) for array in arrays.values())
        except UserError as error:
            refused.append(line(error))
    assert len(refused) > 300
    assert all(path.name in message for message in refused)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["config.json", "metrics.json", "metrics_per_image.npz", "launches.jsonl", "events"]
)
def test_records_of_a_run(name, tmp_path):
    """What a report reads; damaged launches and curves are left out."""
    workdir = epath.Path(tmp_path)
    run_config.save(demo.get_config(), workdir)
    summary = {"step": 4, "num_images": 2, "dataset": "d", "split": "test", "fg_ari": 0.5}
    (workdir / "metrics.json").write_text(json.dumps(summary))
    np.savez(tmp_path / "metrics_per_image.npz", record=np.arange(2), fg_ari=np.ones(2))
    (workdir / "launches.jsonl").write_text(json.dumps(dict.fromkeys(provenance.FIELDS, 1)) + "\n")
    writer = writers.SummaryWriter(workdir)
    for step in range(3):
        writer.write_scalars(step, {"train/loss": 1.0})
    writer.close()
    (path,) = tmp_path.glob(f"{name}*")
    assert runs.read(workdir).summary["fg_ari"] == 0.5
    for mutant in mutants(path.read_bytes(), 400):
        path.write_bytes(mutant)
        try:
            runs.read(workdir)
        except UserError as error:
            line(error)
