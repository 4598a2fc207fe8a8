"""Scenes reach the devices the same, whether they wait there or are read as they are needed."""

import jax
import numpy as np
import pytest

from akorn_jax.data import batches, records
from akorn_jax.errors import UserError
from akorn_jax.runtime import sharding


@pytest.fixture
def mesh():
    """Whose devices are not in the order of their numbers, as on a pod."""
    return sharding.make_mesh({"data": 4, "fsdp": 2}, jax.devices()[::-1])


def drawn(loader, steps, count):
    """The batches of calls of `count` steps each, by field, on the host."""
    with loader:
        for step in range(*steps, count):
            given = loader(step, count)
            for k in range(count):
                chosen = jax.tree.map(lambda x, k=k: x[k], given.indices)
                batch = batches.gather_batch(given.source, chosen)
                yield given.rows[k], jax.tree.map(np.asarray, batch)


@pytest.mark.parametrize(("count", "bounds"), [(1, None), (2, None), (1, (3, 3))])
def test_a_stream_gives_what_is_resident(tiny, mesh, count, bounds):
    """Over more than an epoch, from a step on, with the protocol's crop and its filter."""
    tiny.num_steps = 18
    if bounds:
        tiny.data.min_objects, tiny.data.max_objects = bounds
    names = ("image", "segmentation", "color")
    found = []
    for tiny.data.loading in ("resident", "stream"):
        loader = batches.make(tiny, names, mesh)
        assert loader.records.tolist() == list(range(32, 128))
        found.append(list(drawn(loader, (4, 18), count)))
    examples = records.load(tiny.data, "train", tiny.data_dir)
    for (rows, resident), (same_rows, stream) in zip(*found, strict=True):
        np.testing.assert_array_equal(rows, same_rows)
        assert resident.keys() == stream.keys() == set(names)
        np.testing.assert_array_equal(resident["image"], examples.images[rows])
        for name in names:
            np.testing.assert_array_equal(resident[name], stream[name])


def test_a_stream_puts_each_devices_share_on_it(tiny, mesh):
    tiny.data.loading = "stream"
    with batches.make(tiny, ("image",), mesh) as loader:
        image = loader(0, 2).indices["image"]
    assert image.shape == (2, 8, 32, 32, 3)
    assert {shard.data.shape for shard in image.addressable_shards} == {(2, 1, 32, 32, 3)}


@pytest.mark.slow
def test_processes_that_read_give_the_same(tiny, mesh):
    tiny.data.loading = "stream"
    found = []
    for tiny.data.num_workers in (0, 2):
        found.append(list(drawn(batches.make(tiny, ("image",), mesh), (1, 12), 1)))
    for (_, threads), (_, processes) in zip(*found, strict=True):
        np.testing.assert_array_equal(threads["image"], processes["image"])


def test_more_than_fits_is_refused_before_it_is_read(tiny, mesh, monkeypatch):
    monkeypatch.setattr(batches, "memory_of", lambda device: 60_000.0)
    monkeypatch.setattr(records, "load_fields", None)
    with pytest.raises(UserError, match=r"96 scenes take .* use config.data.loading=stream") as e:
        batches.make(tiny, ("image",), mesh)
    assert "\n" not in str(e.value)
    tiny.data.loading = "stream"
    assert len(batches.make(tiny, ("image",), mesh).records) == 96


def test_a_scene_too_many_is_refused(mesh, monkeypatch):
    monkeypatch.setattr(batches, "memory_of", lambda device: 1000.0)
    share = batches.RESIDENT_SHARE * 1000 * mesh.size
    batches.check_fits(int(share), 1, mesh)
    with pytest.raises(UserError):
        batches.check_fits(int(share) + 1, 1, mesh)


def test_the_stored_scenes_of_too_small_a_set_are_refused_like_those_loaded(tiny):
    tiny.data.train = (0, 1000)
    with pytest.raises(UserError, match=r"has 128 scenes that fit, train=\(0, 1000\) needs 1000"):
        records.OnDisk(tiny.data, "train", tiny.data_dir)


def test_reading_processes_need_shared_memory(tmp_path):
    batches.check_shared_memory(2, 1000, str(tmp_path))
    with pytest.raises(UserError, match=r"num_workers=2: .* MB free, .*need .* MB.*num_workers=0"):
        batches.check_shared_memory(2, 10**21, str(tmp_path))
    with pytest.raises(UserError, match=r"num_workers=2: .*missing cannot be written to"):
        batches.check_shared_memory(2, 1000, str(tmp_path / "missing"))
