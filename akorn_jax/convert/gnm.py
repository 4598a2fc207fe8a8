"""Official names of GNM in karazijal/clevrtex."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.convert.layout import Entry, Layout, convolution, identity, linear, pointwise
from akorn_jax.errors import UserError
from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.conv_lstm import ConvLSTM
from akorn_jax.layers.subpixel import Conv
from akorn_jax.models import gnm

Entries = Iterator[Entry]


def entries(model: gnm.Model) -> list[Entry]:
    """Every official array of a model."""
    return list(_entries(model))


def _entries(model: gnm.Model) -> Entries:
    yield from _constants(model)
    yield from _blocks("img_encoder.conv", model.encoder.layers, 3)
    yield from _draw("global_struct_draw", model.draw)
    head = "p_z_given_x_or_g_net"
    yield from _blocks(f"{head}.pwdw_net.conv", model.head.blocks, 3)
    for part in ("pres", "where", "depth", "what"):
        yield from _affine(f"{head}.q_{part}_net", getattr(model.head, part), pointwise())
    glimpse = "local_latent_sampler.z_what_decoder_net.conv"
    yield from _blocks(glimpse, model.glimpse_decoder.layers, 4)
    yield from _blocks("p_bg_decoder.p_bg_decoder.conv", model.background_decoder.layers, 4)
    yield from _mlp("p_bg_given_g_net.p_bg_generator", model.background_prior)
    order = _map_order(model.draw.channels, model.draw.grid_size)
    yield from _mlp("q_bg_given_x_net.p_bg_encoder", model.background_posterior, inputs=order)


def _draw(name: str, draw: gnm.StructDraw) -> Entries:
    G, C = draw.grid_size, draw.channels
    yield _constant(f"{name}.dec_step_0", np.zeros((1, C, G, G)))
    yield from _mlp(f"{name}.p_global_net", draw.prior)
    yield from _mlp(f"{name}.q_global_net", draw.posterior)
    yield from _lstm(f"{name}.rnn_enc", draw.encoder)
    yield from _lstm(f"{name}.rnn_dec", draw.decoder)
    yield from _conv(f"{name}.hid_to_dec_net.conv.0", draw.write)
    # The last layer gives a map, channels first.
    order = _map_order(draw.expand.layers[-1].bias.shape[0] // G**2, G)
    yield from _mlp(f"{name}.p_global_decoder_net", draw.expand, outputs=order)


def _constants(model: gnm.Model) -> Entries:
    """Official state that is no state of ours."""
    G, size = model.draw.grid_size, model.image_size
    mean, std = gnm.WHERE_PRIOR
    for part in ("what", "bg", "depth"):
        yield _constant(f"aux_p_{part}_mean", np.zeros(1))
        yield _constant(f"aux_p_{part}_std", np.ones(1))
    yield _constant("aux_p_where_mean", mean[None])
    yield _constant("aux_p_where_std", std[None])
    # Where the schedule of the presence prior was last: a recipe has the schedule.
    yield _constant("aux_p_pres_probs", np.array(0.1), fixed=False)
    yield _constant("background", np.zeros((1, 3, size, size)))
    row, column = np.meshgrid(np.arange(G), np.arange(G), indexing="ij")
    yield _constant("local_latent_sampler.offset", np.stack([column, row])[None])


def _blocks(name: str, blocks: nnx.List, spacing: int) -> Entries:
    """Blocks of `spacing` official layers: convolution, ..., norm."""
    for i, block in enumerate(blocks):
        yield from _conv(f"{name}.{spacing * i}", block.conv)
        if block.norm is not None:
            yield from _norm(f"{name}.{spacing * (i + 1) - 1}", block.norm, identity())


def _mlp(
    name: str,
    mlp: gnm.MLP,
    *,
    inputs: np.ndarray | None = None,
    outputs: np.ndarray | None = None,
) -> Entries:
    """`inputs` and `outputs`: the official places of our entries at either end."""
    last = len(mlp.layers) - 1
    for i, layer in enumerate(mlp.layers):
        kernel, vector = linear(), identity()
        if i == 0 and inputs is not None:
            kernel = kernel.then(0, inputs)
        if i == last and outputs is not None:
            kernel, vector = kernel.then(1, outputs), vector.then(0, outputs)
        yield Entry(f"{name}.mlp.{3 * i}.weight", layer.kernel, kernel)
        yield Entry(f"{name}.mlp.{3 * i}.bias", layer.bias, vector)
        if i < len(mlp.norms):
            yield from _norm(f"{name}.mlp.{3 * i + 2}", mlp.norms[i], vector)


def _lstm(name: str, lstm: ConvLSTM) -> Entries:
    channels_last = Layout(lambda a: a[0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[None])
    yield Entry(f"{name}.h_0", lstm.h_0, channels_last)
    yield Entry(f"{name}.c_0", lstm.c_0, channels_last)
    yield from _conv(f"{name}.conv", lstm.gates)


def _conv(name: str, conv: Conv) -> Entries:
    yield from _affine(name, conv, convolution())


def _affine(name: str, module: nnx.Module, layout: Layout) -> Entries:
    yield Entry(f"{name}.weight", module.kernel, layout)
    yield Entry(f"{name}.bias", module.bias, identity())


def _norm(name: str, module: nnx.Module, layout: Layout) -> Entries:
    yield Entry(f"{name}.weight", module.scale, layout)
    yield Entry(f"{name}.bias", module.bias, layout)


def _map_order(channels: int, grid_size: int) -> np.ndarray:
    """Where the entries of our flattened map `[G, G, C]` are in the official `[C, G, G]`."""
    official = np.arange(channels * grid_size**2).reshape(channels, grid_size, grid_size)
    return official.transpose(1, 2, 0).ravel()


def _constant(name: str, value: np.ndarray, *, fixed: bool = True) -> Entry:
    """An array that is official state and no state of ours: it must be what we compute."""
    value = value.astype(np.float32)

    def load(array: np.ndarray) -> np.ndarray:
        if fixed and not np.allclose(array, value, atol=1e-6):
            raise UserError(f"{name} differs from the constant that this model is built on.")
        return array

    return Entry(name, Buffer(jnp.asarray(value)), Layout(load, lambda array: array))
