"""What is restored is what was saved, whatever happens to the disk in between."""

import dataclasses
import errno
import hashlib
import os
import re
import resource
import shutil
import signal
import threading
import time
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.runtime import sharding, storage
from akorn_jax.training import checkpoint, checksums
from akorn_jax.training.checkpoint import Checkpoints


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    step: jax.Array
    params: nnx.State
    opt_state: optax.OptState
    key: jax.Array


def make_state(seed=0, width=64):
    model = nnx.Sequential(*[nnx.Linear(width, width, rngs=nnx.Rngs(seed)) for _ in range(2)])
    params = nnx.state(model, nnx.Param)
    opt_state = optax.adam(1e-3).init(params)
    return State(jnp.int32(seed), params, opt_state, jax.random.key(seed))


def assert_equal(a, b):
    def same(x, y):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype

    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(same, a, b)


def save_all(directory, steps, **options):
    """Steps whose states are `make_state(step)`."""
    with Checkpoints(directory, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, make_state(step), {"step": step})


def restore(directory, like=None, **options):
    with Checkpoints(directory) as checkpoints:
        return checkpoints.restore_latest(make_state() if like is None else like, **options)


def data_file(directory, step):
    """The file that holds the arrays: the largest."""
    return max((directory / str(step)).rglob("*"), key=lambda f: f.stat().st_size * f.is_file())


def flip_bit(directory, step):
    file = data_file(directory, step)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate(directory, step):
    os.truncate(data_file(directory, step), data_file(directory, step).stat().st_size // 2)


def remove_data(directory, step):
    data_file(directory, step).unlink()


def remove_step(directory, step):
    shutil.rmtree(directory / str(step))


def remove_checksums(directory, step):
    (directory / f"{step}.sha256").unlink()


def empty_checksums(directory, step):
    os.truncate(directory / f"{step}.sha256", 0)


DAMAGES = [flip_bit, truncate, remove_data, remove_step, remove_checksums, empty_checksums]


def test_round_trip(tmp_path):
    save_all(tmp_path / "new" / "checkpoints", [7])
    restored = restore(tmp_path / "new" / "checkpoints")
    assert (restored.step, restored.extra) == (7, {"step": 7})
    assert_equal(restored.state, make_state(7))


def test_abstract_state_is_enough(tmp_path):
    save_all(tmp_path, [7])
    like = jax.eval_shape(make_state)
    device = jax.devices()[3]
    restored = restore(tmp_path, like, sharding=jax.sharding.SingleDeviceSharding(device))
    assert_equal(restored.state, make_state(7))
    assert {d for x in jax.tree.leaves(restored.state) for d in x.devices()} == {device}


def test_a_part_is_restored_on_request(tmp_path):
    save_all(tmp_path, [7])
    part = {"params": make_state().params}
    with pytest.raises(UserError, match=r"opt_state.* is unknown"):
        restore(tmp_path, part)
    assert_equal(restore(tmp_path, part, partial=True).state, {"params": make_state(7).params})


def test_no_checkpoint_is_none(tmp_path):
    assert restore(tmp_path / "nothing") is None
    assert not (tmp_path / "nothing").exists()


def test_checksums_are_those_of_sha256sum(tmp_path):
    save_all(tmp_path, [3])
    lines = (tmp_path / "3.sha256").read_text().splitlines()
    *lines, seal = lines
    assert re.fullmatch(rf"# {len(lines)} files, [0-9a-f]{{64}}", seal)
    listed = dict(reversed(line.split("  ")) for line in lines)
    files = [f for f in (tmp_path / "3").rglob("*") if f.is_file()]
    assert listed == {
        str(f.relative_to(tmp_path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files
    }


def test_keeps_the_newest(tmp_path):
    save_all(tmp_path, [1, 2, 3, 4], keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "3.sha256", "4", "4.sha256"]
    with pytest.raises(UserError, match="keep=0"):
        Checkpoints(tmp_path, keep=0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_the_newest_intact_is_used(tmp_path, caplog, damage):
    save_all(tmp_path, [10, 20])
    damage(tmp_path, 20)
    before = sorted(tmp_path.rglob("*"))
    restored = restore(tmp_path)
    assert restored.step == 10
    assert_equal(restored.state, make_state(10))
    assert f"{tmp_path}/20 is damaged" in caplog.text
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_intact_is_an_error_and_deletes_nothing(tmp_path, damage):
    save_all(tmp_path, [10, 20])
    for step in (10, 20):
        damage(tmp_path, step)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="no checkpoint is intact") as error:
        restore(tmp_path)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_byte_of_every_file_is_guarded(tmp_path):
    save_all(tmp_path, [10])
    for file in [f for f in (tmp_path / "10").rglob("*") if f.is_file()]:
        good = file.read_bytes()
        for position in (0, len(good) - 1):
            bad = bytearray(good)
            bad[position] ^= 0x10
            file.write_bytes(bad)
            assert checksums.damage(checkpoint.epath.Path(tmp_path), "10")
        file.write_bytes(good)
    assert checksums.damage(checkpoint.epath.Path(tmp_path), "10") is None


def test_damaged_steps_are_saved_again(tmp_path):
    save_all(tmp_path, [10, 20, 30], keep=3)
    flip_bit(tmp_path, 20)
    flip_bit(tmp_path, 30)
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        assert checkpoints.restore_latest(make_state()).step == 10
        checkpoints.save(20, make_state(21))
        checkpoints.wait()
        # 30 is damaged, and of a past that this run has left.
        assert checkpoints.steps() == [10, 20]
        checkpoints.save(30, make_state(31))
    restored = restore(tmp_path)
    assert restored.step == 30
    assert_equal(restored.state, make_state(31))


def test_newer_steps_that_nobody_looked_at_stay(tmp_path):
    save_all(tmp_path, [10, 20])
    save_all(tmp_path, [5], keep=1)
    assert restore(tmp_path).step == 20


def test_a_step_known_to_be_good_is_not_written_twice(tmp_path):
    save_all(tmp_path, [10])
    before = data_file(tmp_path, 10).stat().st_mtime_ns
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore_latest(make_state())
        checkpoints.save(10, make_state(10))
    assert data_file(tmp_path, 10).stat().st_mtime_ns == before


def test_another_model_is_refused(tmp_path):
    save_all(tmp_path, [10])
    with pytest.raises(UserError, match=r"another config: .*is float32\[64\], not float32\[32\]"):
        restore(tmp_path, make_state(width=32))


def test_one_topology_restores_on_another(tmp_path):
    state = make_state(5)
    wide = sharding.make_mesh({"data": 2, "fsdp": 4})
    narrow = sharding.make_mesh({"data": 1, "fsdp": 2}, jax.devices()[4:6])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, jax.device_put(state, sharding.state_sharding(state, wide, 64)))
    placement = sharding.state_sharding(state, narrow, 64)
    restored = restore(tmp_path, jax.eval_shape(make_state), sharding=placement)
    assert_equal(restored.state, state)
    kernel = restored.state.opt_state[0].mu["layers"][0]["kernel"][...]
    assert kernel.sharding == sharding.state_sharding(kernel, narrow, 64)
    assert kernel.addressable_shards[0].data.shape == (64, 32)


def test_the_state_may_be_donated_at_once(tmp_path):
    add = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    tree = {str(i): jnp.full((256, 256), float(i)) for i in range(16)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree)
        for _ in range(5):
            tree = add(tree)
        restored = checkpoints.restore_latest(tree)
    for i in range(16):
        np.testing.assert_array_equal(restored.state[str(i)], float(i))


@pytest.fixture
def small_files():
    """Limits files to 100 kB: a storage error of the real file system, from within its writes."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, ignored)


# TensorStore's threads report to orbax's event loop, which the failure has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_storage_errors_cost_the_step_only(tmp_path, caplog, request):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, make_state(10))
        checkpoints.wait()
        request.getfixturevalue("small_files")
        checkpoints.save(20, make_state(20, width=256))
        checkpoints.wait()
        assert "checkpoint 20 not saved" in caplog.text
        assert "the last good checkpoint is 10" in caplog.text
        assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "10.sha256"]
        checkpoints.save(30, make_state(30))
    assert restore(tmp_path).step == 30


def test_a_full_disk_is_seen_beforehand(tmp_path, caplog, monkeypatch):
    save_all(tmp_path, [10])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 50_000))
    save_all(tmp_path, [20])
    assert "checkpoint 20 not saved" in caplog.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "10.sha256"]


def test_a_full_disk_while_writing_the_checksums(tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    save_all(tmp_path, [10])
    monkeypatch.setattr(checksums, "write", full)
    save_all(tmp_path, [20])
    assert "checkpoint 20 not saved: [Errno 28] No space left on device" in caplog.text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "10.sha256"]


def test_a_step_that_is_given_up_while_it_is_written_costs_only_itself(
    tmp_path, caplog, monkeypatch
):
    """As where the clock jumps past orbax's time limit: its threads write on while we clean up."""

    def late(self):
        raise TimeoutError("the clock says so")

    def not_empty(path):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(10, make_state(10))
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr(ocp.AsyncCheckpointer, "wait_until_finished", late)
            patch.setattr(storage, "remove", not_empty)
            checkpoints.save(20, make_state(20))
            checkpoints.wait()
        assert "checkpoint 20 not saved: the clock says so" in caplog.text
        assert "20 could not be removed" in caplog.text
        assert restore(tmp_path).step == 10
        checkpoints.save(30, make_state(30))
    assert restore(tmp_path).step == 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ["10", "10.sha256", "30", "30.sha256"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clock_jumps(tmp_path, monkeypatch, hours):
    true_time = time.time
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(10, make_state(10))
        checkpoints.wait()
        checkpoints.save(20, make_state(20))
        monkeypatch.setattr(time, "time", lambda: true_time() + 3600 * hours)
        checkpoints.save(30, make_state(30))
    assert restore(tmp_path).step == 30
    # An hour ahead lies past orbax's time limit: the step that was being written is given up.
    assert checkpoints.steps() == ([20, 30] if hours < 0 else [10, 30])


def test_a_save_that_does_not_return_costs_what_is_saved_meanwhile(tmp_path, caplog, monkeypatch):
    answer = threading.Event()
    finish = ocp.AsyncCheckpointer.wait_until_finished

    def stuck(self):
        if threading.current_thread() is not threading.main_thread():
            assert answer.wait(60)
        finish(self)

    with Checkpoints(tmp_path, patience=0.1) as checkpoints:
        checkpoints.save(10, make_state(10))
        checkpoints.patience = 60.0
        checkpoints.wait()
        checkpoints.patience = 0.1
        monkeypatch.setattr(ocp.AsyncCheckpointer, "wait_until_finished", stuck)
        checkpoints.save(20, make_state(20))
        assert checkpoints.describe_latest() == f"the last good checkpoint is {tmp_path / '10'}"
        assert checkpoints.stuck
        assert f"checkpoint 20 not saved: {tmp_path} has not answered for 0 s" in caplog.text
        checkpoints.save(30, make_state(30))
        assert "checkpoint 30 not saved: an earlier one is still being saved" in caplog.text
        assert restore(tmp_path).step == 10

        answer.set()  # and what was late is as good as any
        while checkpoints.stuck:
            checkpoints.wait()
        assert restore(tmp_path).step == 20
        checkpoints.patience = 60.0
        checkpoints.save(40, make_state(40))
    assert restore(tmp_path).step == 40
    assert checkpoints.steps() == [10, 20, 40]


def test_leaving_does_not_wait_for_a_save_that_does_not_return(tmp_path, monkeypatch):
    answer = threading.Event()
    monkeypatch.setattr(ocp.AsyncCheckpointer, "wait_until_finished", lambda _: answer.wait(60))
    with Checkpoints(tmp_path, patience=0.1) as checkpoints:
        checkpoints.save(10, make_state(10))
    assert checkpoints.stuck
    assert checkpoints.last_step is None
    answer.set()


def test_our_own_bugs_are_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "write", lambda *_: 1 / 0)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, make_state(10))
    with pytest.raises(ZeroDivisionError):
        checkpoints.wait()
    checkpoints.close()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/checkpoints: cannot write .*\(Not a directory\)"):
        save_all(tmp_path / "file" / "checkpoints", [1])
