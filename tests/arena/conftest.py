"""An arena of toys: real trainings, scores and pages of a model of a few numbers."""

import base64
import contextlib
import shutil
from pathlib import Path

import jax
import pytest
from etils import epath

from akorn_jax import models, run_config, train
from akorn_jax.errors import UserError
from akorn_jax.evaluation import plots
from akorn_jax.runtime import sharding
from benchmarks.arena import page, processes, runs, score
from benchmarks.arena.processes import Done, Failure
from configs import arena, base, data, demo, fields

TOY = Path(__file__).parents[1] / "toy.py"
IMAGES = 96
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SEEDS = 2


def small(system):
    """A recipe of the toy; one of them asks for a learning rate at which it diverges."""
    config = demo.get_config()
    config.model = fields.model("toy_of_the_arena", width=2)
    config.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": 1e-3})
    config.optimizer.schedule = "constant"
    config.optimizer.learning_rate = 1e20 if system == "diverges" else 1e-2
    config.batch_size, config.mesh.data = 8, 1
    config.eval.batch_size, config.eval.num_workers = 8, 1
    return config


@contextlib.contextmanager
def toys_for_systems(package):
    """Puts toys into the place of the systems, trained in this process; yields the trainings."""
    shutil.copy(TOY, package / "toy_of_the_arena.py")
    protocol = {
        **data.PROTOCOLS["tetrominoes:arena"],
        **{"test": (0, 16), "validation": (16, 32), "train": (32, 128)},
    }
    calls = []

    def launch(recipe, workdir, *overrides, mode):
        calls.append((workdir, mode))
        config = run_config.override(base.complete(run_config.from_json(recipe)), overrides)
        try:
            train.train(config, epath.Path(workdir))
        except UserError as error:
            raise Failure(str(error)) from error
        return Done(1.0, 100.0)

    def call(arguments, log):
        score.main(epath.Path(arguments[-1]))
        return Done(1.0, 120.0)

    make_mesh = sharding.make_mesh
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "EVALUATIONS", 2)
        patch.setattr(plots, "result", lambda *_: PIXEL)  # seconds each; not looked at here
        patch.setattr(models, "__path__", [*models.__path__, str(package)])
        patch.setattr(sharding, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
        patch.setitem(data.PROTOCOLS, "tetrominoes:arena", protocol)
        patch.setattr(arena, "small", small)
        toy = arena.System("Toy", "demo")
        chosen = {"akorn": toy, "diverges": arena.System("Diverging toy", "demo")}
        patch.setattr(arena, "SYSTEMS", chosen)
        patch.setattr(processes, "launch", launch)
        patch.setattr(processes, "call", call)
        yield calls


@pytest.fixture(scope="session")
def overrides(data_dir):
    return [f"--config.data_dir={data_dir}"]


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    with toys_for_systems(tmp_path_factory.mktemp("models")) as trainings:
        yield trainings


@pytest.fixture(scope="session")
def out(overrides, tmp_path_factory):
    """Two toys with two seeds each on few scenes, one of which diverges, and the page."""
    out = tmp_path_factory.mktemp("arena")
    budget = runs.remember(out, runs.Budget(images=IMAGES))
    with toys_for_systems(tmp_path_factory.mktemp("models")):
        for system in arena.SYSTEMS:
            for seed in range(SEEDS):
                runs.complete(runs.Entry(out, "tetrominoes", system, seed), budget, overrides)
        page.write(out, ["tetrominoes"], SEEDS, budget, overrides)
    return out
