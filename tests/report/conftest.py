"""Evaluated runs to report on: untrained, but with all that a run leaves behind."""

import jax
import pytest
from etils import epath

from akorn_jax import evaluate, optimizer, run_config
from akorn_jax.runtime import provenance, writers
from akorn_jax.training import train_state
from akorn_jax.training.checkpoint import Checkpoints
from configs import demo, tetrominoes_slot_attention


def leave_behind(config, workdir):
    """Writes what training and evaluation write."""
    model = train_state.build_model(config.model, config.seed)
    tx, _ = optimizer.make(config.optimizer, config.num_steps)
    run_config.make_directory(workdir)
    run_config.save(config, workdir)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(config.num_steps, jax.jit(lambda: train_state.create(model, tx))())
    writer = writers.SummaryWriter(workdir)
    for step in range(4, config.num_steps + 1, 4):
        values = {"loss": 5 - step / 10, "images_per_sec": 800.0, "step_seconds": 0.25}
        writer.write_scalars(step, {f"train/{name}": value for name, value in values.items()})
    writer.close()
    provenance.record(workdir, ["--config=configs/demo.py", f"--config.seed={config.seed}"])
    evaluate.evaluate(config, workdir)
    return epath.Path(workdir)


def shrink(config, data_dir):
    config.data_dir = str(data_dir)
    config.data.train = (32, 128)
    config.data.test = (0, 16)
    config.data.max_records = 128
    config.num_steps = 12
    config.eval.batch_size = 8
    config.eval.num_workers = 1
    return config


@pytest.fixture(scope="session")
def oscillators_config(data_dir):
    config = shrink(demo.get_config(), data_dir)
    config.model.channels = 8
    config.model.heads = 2
    config.model.num_steps = 2
    return config


@pytest.fixture(scope="session")
def slots_config(data_dir):
    config = shrink(tetrominoes_slot_attention.get_config("procedural"), data_dir)
    config.model.channels = 8
    config.model.slot_size = 8
    config.model.hidden_size = 8
    config.eval.baselines = False
    return config


@pytest.fixture(scope="session")
def oscillators_run(oscillators_config, tmp_path_factory):
    return leave_behind(oscillators_config, tmp_path_factory.mktemp("oscillators"))


@pytest.fixture(scope="session")
def slots_run(slots_config, tmp_path_factory):
    return leave_behind(slots_config, tmp_path_factory.mktemp("slots"))
