"""The same numbers on every mesh, on eight forced CPU devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from akorn_jax.errors import UserError
from akorn_jax.runtime import sharding


class Net(nnx.Module):
    """Convolution, scan and two dense layers: what the collectives of real models are about."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 16, (3, 3), rngs=rngs)
        self.hidden = nnx.Linear(16, 64, rngs=rngs)
        self.head = nnx.Linear(64, 24, rngs=rngs)

    def __call__(self, images):
        x = self.conv(images)
        x, _ = jax.lax.scan(lambda x, _: (x + 0.1 * jnp.tanh(x), None), x, length=3)
        return self.head(jnp.tanh(self.hidden(x.mean((1, 2)))))


def contrastive_loss(params, graph, images):
    """Every image against all others of the global batch."""
    z = nnx.merge(graph, params)(images)
    z = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    similarity = z @ z.T / 0.1
    return jnp.mean(jax.nn.logsumexp(similarity, axis=-1) - jnp.diag(jnp.roll(similarity, 1, 0)))


def loss_and_gradients(mesh):
    graph, params = nnx.split(Net(nnx.Rngs(0)), nnx.Param)
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
    placement = sharding.state_sharding(params, mesh, min_size=256)
    params = jax.device_put(params, placement)
    images = jax.device_put(images, sharding.batch_sharding(mesh))
    step = jax.jit(
        lambda p, x: jax.value_and_grad(contrastive_loss)(p, graph, x),
        out_shardings=(sharding.replicated(mesh), placement),
    )
    return step(params, images)


@pytest.fixture(scope="module")
def on_one_device():
    return loss_and_gradients(sharding.make_mesh({}, jax.devices()[:1]))


@pytest.mark.parametrize("shape", [(8, 1), (1, 8), (4, 2)])
def test_every_mesh_gives_the_same_loss_and_gradients(shape, on_one_device):
    mesh = sharding.make_mesh(dict(zip(sharding.AXES, shape, strict=True)))
    loss, gradients = loss_and_gradients(mesh)
    np.testing.assert_allclose(loss, on_one_device[0], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        gradients,
        on_one_device[1],
    )
    kernel = gradients["hidden"]["kernel"][...]  # [16, 64]
    assert kernel.addressable_shards[0].data.shape == (16, 64 // shape[1])
    assert len(kernel.sharding.device_set) == 8


def test_rule():
    mesh = sharding.make_mesh({"data": 2, "fsdp": 4})
    shapes = {
        "largest": (64, 128),
        "equal": (128, 128),
        "largest_does_not_divide": (130, 64),
        "none_divides": (129, 65),
        "small": (8, 8),
        "scalar": (),
        "empty": (0, 128),
    }
    tree = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    specs = jax.tree.map(lambda s: s.spec, sharding.state_sharding(tree, mesh))
    assert specs == {
        "largest": PartitionSpec(None, "fsdp"),
        "equal": PartitionSpec(None, "fsdp"),
        "largest_does_not_divide": PartitionSpec(None, "fsdp"),
        "none_divides": PartitionSpec(),
        "small": PartitionSpec(),
        "scalar": PartitionSpec(),
        "empty": PartitionSpec(),
    }


def test_random_keys_have_a_place():
    mesh = sharding.make_mesh({"fsdp": 8, "data": 1})
    state = {"key": jax.random.key(0), "w": jnp.ones((64, 64))}
    placed = jax.device_put(state, sharding.state_sharding(state, mesh))
    assert placed["w"].addressable_shards[0].data.shape == (64, 8)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({}, (8, 1)),
        ({"data": -1, "fsdp": 2}, (4, 2)),
        ({"data": 2, "fsdp": -1}, (2, 4)),
        ({"data": 4, "fsdp": 2}, (4, 2)),
        ({"fsdp": 8}, (1, 8)),
    ],
)
def test_sizes(config, shape):
    mesh = sharding.make_mesh(config)
    assert tuple(mesh.shape.values()) == shape
    assert tuple(mesh.shape) == sharding.AXES


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model": 2}, r"mesh\.model=2: no such axis; the axes are data, fsdp"),
        ({"data": 3}, r"mesh \(data=3, fsdp=1\): does not divide the 8 devices"),
        ({"data": 4, "fsdp": 1}, r"does not divide the 8 devices"),
        ({"data": -1, "fsdp": 3}, r"does not divide the 8 devices"),
        ({"data": -1, "fsdp": -1}, r"only one axis can take the rest"),
        ({"data": 0}, r"mesh\.data=0: give a number of devices"),
        ({"data": 2.0}, r"mesh\.data=2\.0: give a number of devices"),
    ],
)
def test_bad_sizes_are_one_line(config, message):
    with pytest.raises(UserError, match=message) as error:
        sharding.make_mesh(config)
    assert "\n" not in str(error.value)


def test_a_batch_must_divide():
    mesh = sharding.make_mesh({})
    sharding.check_batch_size(16, mesh)
    with pytest.raises(UserError, match=r"batch_size=12: .* the 8 devices; use 8 or 16"):
        sharding.check_batch_size(12, mesh)
    with pytest.raises(UserError, match=r"batch_size=3: .* use 8 or 16"):
        sharding.check_batch_size(3, mesh)
    with pytest.raises(UserError, match=r"batch_size=0"):
        sharding.check_batch_size(0, mesh)
