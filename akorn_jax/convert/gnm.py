"""Official names of GNM in karazijal/clevrtex."""

from collections.abc import Iterator

import numpy as np

from akorn_jax.convert.layout import (
    Entry,
    Layout,
    affine,
    constant,
    convolution,
    identity,
    linear,
    map_order,
    pointwise,
)
from akorn_jax.convert.parts import blocks
from akorn_jax.layers.conv_lstm import ConvLSTM
from akorn_jax.layers.normed_mlp import NormedMLP
from akorn_jax.layers.struct_draw import StructDraw
from akorn_jax.models import gnm

Entries = Iterator[Entry]


def entries(model: gnm.Model) -> list[Entry]:
    """Every official array of a model."""
    return list(_entries(model))


def _entries(model: gnm.Model) -> Entries:
    G = model.draw.grid_size
    yield from _constants(model)
    yield from blocks("img_encoder.conv", model.encoder.layers)
    yield from _draw("global_struct_draw", model.draw)
    head = "p_z_given_x_or_g_net"
    yield from blocks(f"{head}.pwdw_net.conv", model.head.blocks)
    for part in ("pres", "where", "depth", "what"):
        yield from affine(f"{head}.q_{part}_net", getattr(model.head, part), pointwise())
    glimpse = "local_latent_sampler.z_what_decoder_net.conv"
    yield from blocks(glimpse, model.glimpse_decoder.layers)
    yield from blocks("p_bg_decoder.p_bg_decoder.conv", model.background_decoder.layers)
    yield from _mlp("p_bg_given_g_net.p_bg_generator", model.background_prior)
    order = map_order(model.draw.channels, G, G)
    yield from _mlp("q_bg_given_x_net.p_bg_encoder", model.background_posterior, inputs=order)


def _draw(name: str, draw: StructDraw) -> Entries:
    G, C = draw.grid_size, draw.channels
    yield constant(f"{name}.dec_step_0", np.zeros((1, C, G, G), np.float32))
    yield from _mlp(f"{name}.p_global_net", draw.prior)
    yield from _mlp(f"{name}.q_global_net", draw.posterior)
    yield from _lstm(f"{name}.rnn_enc", draw.encoder)
    yield from _lstm(f"{name}.rnn_dec", draw.decoder)
    yield from affine(f"{name}.hid_to_dec_net.conv.0", draw.write, convolution())
    # The last layer gives a map, channels first.
    order = map_order(draw.expand.layers[-1].bias.shape[0] // G**2, G, G)
    yield from _mlp(f"{name}.p_global_decoder_net", draw.expand, outputs=order)


def _constants(model: gnm.Model) -> Entries:
    """Official state that is no state of ours."""
    G, size = model.draw.grid_size, model.image_size
    mean, std = model.where_prior
    for part in ("what", "bg", "depth"):
        yield constant(f"aux_p_{part}_mean", np.zeros(1, np.float32))
        yield constant(f"aux_p_{part}_std", np.ones(1, np.float32))
    yield constant("aux_p_where_mean", mean[None])
    yield constant("aux_p_where_std", std[None])
    # Where the schedule of the presence prior was last: a recipe has the schedule.
    yield constant("aux_p_pres_probs", np.float32(0.1), fixed=False)
    yield constant("background", np.zeros((1, 3, size, size), np.float32))
    row, column = np.meshgrid(np.arange(G), np.arange(G), indexing="ij")
    yield constant("local_latent_sampler.offset", np.float32([[column, row]]))


def _mlp(
    name: str,
    mlp: NormedMLP,
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
            yield Entry(f"{name}.mlp.{3 * i + 2}.weight", mlp.norms[i].scale, vector)
            yield Entry(f"{name}.mlp.{3 * i + 2}.bias", mlp.norms[i].bias, vector)


def _lstm(name: str, lstm: ConvLSTM) -> Entries:
    channels_last = Layout(lambda a: a[0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[None])
    yield Entry(f"{name}.h_0", lstm.h_0, channels_last)
    yield Entry(f"{name}.c_0", lstm.c_0, channels_last)
    yield from affine(f"{name}.conv", lstm.gates, convolution())
