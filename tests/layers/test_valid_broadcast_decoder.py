"""The decoder against the same thing said slowly: slots repeated over a grid, then convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder

B, K, S, H, W = 2, 3, 5, 6, 8


def make(position, out_kernel_size, init=None):
    return ValidBroadcastDecoder(
        S,
        4,
        num_layers=2,
        out_kernel_size=out_kernel_size,
        position=position,
        activation=jax.nn.elu,
        init=init,
        rngs=nnx.Rngs(0),
    )


def slowly(decoder, slots):
    """Tile, tell the position, convolve."""

    def conv(x, layer):
        kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
        return np.einsum("nhwiyx,yxio->nhwo", windows, kernel) + bias

    border = decoder.border
    y, x = np.meshgrid(np.linspace(0, 1, H + border), np.linspace(0, 1, W + border), indexing="ij")
    tiled = np.broadcast_to(slots.reshape(-1, 1, 1, S), (B * K, *y.shape, S))
    if decoder.position is None:
        where = np.broadcast_to(2 * np.stack([y, x], -1) - 1, (B * K, *y.shape, 2))
        maps = np.concatenate([tiled, where], axis=-1)
    else:
        project = decoder.position.project
        corners = np.stack([y, x, 1 - y, 1 - x], axis=-1)
        maps = tiled + corners @ np.asarray(project.kernel[...]) + np.asarray(project.bias[...])
    for layer in decoder.layers:
        maps = conv(maps, layer)
        maps = np.where(maps > 0, maps, np.expm1(np.minimum(maps, 0)))
    maps = conv(maps, decoder.out)
    return maps.reshape(B, K, *maps.shape[1:])


@pytest.mark.parametrize("position", ["append", "add"])
@pytest.mark.parametrize("out_kernel_size", [1, 3])
def test_is_a_convolution_of_repeated_slots(position, out_kernel_size):
    decoder = make(position, out_kernel_size)
    slots = np.random.default_rng(0).normal(size=(B, K, S)).astype(np.float32)
    maps = decoder(slots, H, W)
    assert maps.shape == (B, K, H, W, 4)
    np.testing.assert_allclose(maps, slowly(decoder, slots), atol=1e-5)


def test_initial_parameters():
    torch = make("add", 1)
    for layer in (*torch.layers, torch.out, torch.position.project):
        bound = np.prod(layer.kernel.shape[:-1]) ** -0.5
        for parameter in (layer.kernel, layer.bias):
            assert 0.5 * bound < np.abs(parameter[...]).max() <= bound
    constant = make("append", 1, nnx.initializers.constant(0.3))
    for layer in (*constant.layers, constant.out):
        assert (layer.kernel[...] == 0.3).all()
        assert not jnp.any(layer.bias[...])


def test_refuses_an_unknown_position():
    with pytest.raises(ValueError, match="position='learned' is unknown; it is one of append"):
        make("learned", 1)
