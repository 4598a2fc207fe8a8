"""Official names of IODINE in karazijal/clevrtex."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.convert.layout import (
    Entry,
    Layout,
    Part,
    channels,
    convolution,
    identity,
    linear,
    table,
)
from akorn_jax.errors import UserError
from akorn_jax.layers.buffer import Buffer
from akorn_jax.models import iodine

Entries = Iterator[Entry]


def entries(model: iodine.Model) -> list[Entry]:
    """Every official array of a model."""
    return list(_entries(model))


def _entries(model: iodine.Model) -> Entries:
    yield Entry("lamda_0", model.posterior, channels(2))
    log_std = np.full((1, model.num_slots, 1, 1, 1), np.log(model.std))
    yield constant("gmm_log_scale", log_std)
    decoder = model.decoder
    for i, layer in enumerate([*decoder.layers, decoder.out]):
        layout = convolution()
        if i == 0:  # theirs appends (x, y) to the slot, ours (y, x)
            Z = model.slot_size
            layout = layout.then(2, np.array([*range(Z), Z + 1, Z]))
        yield from affine(f"image_decoder.decode.{2 * i}", layer, layout)
    refinement = model.refinement
    for i, layer in enumerate(refinement.convolutions):
        yield from affine(f"refine_net.conv.{2 * i}", layer, convolution())
    # Behind the convolutions, pooling and flattening are numbered too.
    hidden = 2 * len(refinement.convolutions) + 2
    yield from affine(f"refine_net.conv.{hidden}", refinement.hidden, linear())
    lstm = refinement.lstm
    yield Entry("refine_net.lstm.weight_ih_l0", lstm.input_kernel, linear())
    yield Entry("refine_net.lstm.weight_hh_l0", lstm.state_kernel, linear())
    yield Entry("refine_net.lstm.bias_ih_l0", Part(lstm.bias, 0), identity())
    yield Entry("refine_net.lstm.bias_hh_l0", Part(lstm.bias, 1), identity())
    yield from affine("refine_net.ref_head", refinement.out, linear())
    norms = (model.norm_likelihood, model.norm_without, model.norm_means, model.norm_log_masks)
    for i, norm in enumerate(norms):
        yield from scale(f"layer_norms.{i}", norm, table())
    for i, norm in enumerate((model.norm_loc, model.norm_raw), start=len(norms)):
        yield from scale(f"layer_norms.{i}", norm, identity())


def affine(name: str, module: nnx.Module, layout: Layout) -> Entries:
    """A kernel and a bias."""
    yield Entry(f"{name}.weight", module.kernel, layout)
    yield Entry(f"{name}.bias", module.bias, identity())


def scale(name: str, module: nnx.Module, layout: Layout) -> Entries:
    """The scale and the bias of a norm."""
    yield Entry(f"{name}.weight", module.scale, layout)
    yield Entry(f"{name}.bias", module.bias, layout)


def constant(name: str, value: np.ndarray, *, fixed: bool = True) -> Entry:
    """An array that is official state and no state of ours.

    Args:
        name: the official one.
        value: what is written.
        fixed: it must also be what is read; otherwise anything is.
    """
    value = np.asarray(value, np.float32)

    def load(array: np.ndarray) -> np.ndarray:
        if fixed and not np.allclose(array, value, atol=1e-6):
            raise UserError(f"{name} differs from the constant that this model is built on.")
        return array

    return Entry(name, Buffer(jnp.asarray(value)), Layout(load, lambda array: array))
