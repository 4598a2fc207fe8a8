"""Every test runs on the CPU, with eight forced devices so that sharding can be real.

Tests compile far longer than they compute, so XLA optimizes little (`xla_flags.py`), and what was
compiled once is there for all processes of this and of later runs. The tests of a file, or of a
folder that shares runs, go to one process, which makes their fixtures once; those that take longest
begin, so that no process is left alone with them.
"""

import gc
import os
import subprocess
import sys
from pathlib import Path

from tests.xla_flags import QUICK

ROOT = Path(__file__).parents[1]
# Groups that take longest: begun last, one of them would run alone at the end.
LONGEST = (
    "test_architecture.py",
    "training/test_train_metrics.py",
    "training/test_resume.py",
    "runtime/test_pods.py",
    "report",
    "datasets/scenes/test_clevr.py",
    "datasets/scenes/test_clevrtex_like.py",
    "test_train.py",
    "test_benchmarks.py",
    "test_launch.py",
    "parity/test_dti_sprites.py",
    "parity/test_space.py",
    "parity/test_slate.py",
)

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count=8 {QUICK}"
).strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
os.environ["MPLBACKEND"] = "agg"
sys.path.insert(0, str(ROOT))  # configs and datasets are not installed
gc.set_threshold(20_000)  # tracing makes many objects that live: look at them less often

import jax
import pytest
from xdist.scheduler import LoadScopeScheduling

import launch as launcher
from akorn_jax.runtime import sharding
from configs import demo, fields
from datasets.prepare import prepare
from tests import toy


def group_of(nodeid):
    """What one process runs: the tests of a file, or of a folder that looks at the same runs."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    folder = file.partition("/")[0]
    return folder if folder in ("arena", "report") else file


class Groups(LoadScopeScheduling):
    """Gives groups to processes as a whole, in the order of the tests."""

    def _split_scope(self, nodeid):
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Groups(config, log)


def pytest_collection_modifyitems(items):
    """Slow tests start many processes: what bounds them is to end a hang, not to measure."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(3600))
    rank = {group: i for i, group in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(group_of(item.nodeid), len(rank)))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where 128 synthetic Tetrominoes scenes are prepared."""
    directory = tmp_path_factory.mktemp("data")
    prepare("tetrominoes/procedural", directory, max_records=128)
    return directory


@pytest.fixture
def one_device(monkeypatch):
    """Lets a mesh of one device be made of the first of the eight."""
    make_mesh, one = sharding.make_mesh, {"data": 1, "fsdp": 1}

    def make(config, devices=None):
        return make_mesh(config, jax.devices()[:1] if dict(config) == one else devices)

    monkeypatch.setattr(sharding, "make_mesh", make)


@pytest.fixture(scope="session")
def make_tiny(data_dir):
    """Gives the demo's config, small enough for a test: 12 steps of 8 scenes, seconds."""

    def make():
        config = demo.get_config()
        config.data_dir = str(data_dir)
        config.data.train = (32, 128)
        config.data.test = (0, 16)
        config.data.max_records = 128
        config.model.channels = 8
        config.model.heads = 2
        config.model.num_steps = 2
        config.batch_size = 8
        config.num_steps = 12
        config.log_every = 4
        config.checkpoint_every = 4
        config.mesh.data = 1
        config.mesh.fsdp = 1
        config.eval.batch_size = 8
        config.eval.num_workers = 1
        return config

    return make


@pytest.fixture
def tiny(make_tiny, one_device):
    """That config, on one device."""
    return make_tiny()


@pytest.fixture
def quick(tiny, monkeypatch):
    """That config with a model of a few numbers, where the model is not what matters."""
    monkeypatch.setitem(sys.modules, "akorn_jax.models.toy", toy)
    tiny.model = fields.model("toy", width=2)
    tiny.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": 1e-3})
    return tiny


@pytest.fixture
def launch(data_dir, one_device):
    """Starts launch.py on a tiny recipe in a process of its own.

    `launch(workdir, *arguments, devices=1)` gives a `subprocess.Popen` with pipes; none outlives
    the test. `launch.here(workdir, *arguments)` runs it in this process, on one device, and gives
    the exit code: it need not import everything again.
    """
    settings = {
        "data_dir": data_dir,
        "data.train": (32, 128),
        "data.validation": (16, 32),
        "data.test": (0, 16),
        "data.max_records": 128,
        "model.channels": 8,
        "model.num_steps": 2,
        "batch_size": 8,
        "num_steps": 24,
        "log_every": 4,
        "checkpoint_every": 3,
        "eval.batch_size": 8,
        "eval.num_workers": 1,
        "eval.baselines": False,
    }
    recipe = ["--config=demo", *(f"--config.{name}={value}" for name, value in settings.items())]
    started = []

    def start(workdir, *arguments, devices=1):
        flags = f"--xla_force_host_platform_device_count={devices}"
        process = subprocess.Popen(
            [sys.executable, "launch.py", f"--workdir={workdir}", *recipe, *arguments],
            cwd=ROOT,
            env={**os.environ, "XLA_FLAGS": f"{flags} {QUICK}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    def here(workdir, *arguments):
        mesh = ("--config.mesh.data=1", "--config.mesh.fsdp=1")
        return launcher.main([f"--workdir={workdir}", *recipe, *mesh, *arguments])

    start.here = here
    yield start
    for process in started:
        process.kill()
        process.communicate()
