"""Official names of the Agglomerator: the Lightning module of mmlab-cv/Agglomerator."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.convert.layout import Entry, Layout, convolution, identity, linear
from akorn_jax.errors import UserError
from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.buffer import Buffer
from akorn_jax.models.agglomerator import ColumnNetworks, Model, neighbours

Entries = Iterator[Entry]


def entries(model: Model) -> list[Entry]:
    """Every official array of a model; there must be at least 2 levels.

    Raises:
        UserError: the official code has no such model.
    """
    if model.num_levels < 2:
        raise UserError("num_levels=1: the official Agglomerator has at least 2 levels.")
    return list(_entries(model))


def _entries(model: Model) -> Entries:
    yield Entry("wl", model.weight_self, identity())
    yield Entry("wBU", model.weight_bottom_up, identity())
    yield Entry("wTD", model.weight_top_down, identity())
    yield Entry("wA", model.weight_attention, identity())
    yield Entry("init_levels", model.initial_levels, identity())
    tokenizer = model.tokenizer
    for i, (conv, norm) in enumerate(zip(tokenizer.convolutions, tokenizer.norms, strict=True)):
        yield Entry(f"image_to_tokens.0.block.{3 * i}.weight", conv.kernel, convolution())
        yield from _batch_norm(f"image_to_tokens.0.block.{3 * i + 1}", norm)
    yield from _columns("bottom_up.net", model.bottom_up, np.arange(model.num_levels))
    # The official code turns the levels round before and after its top-down networks.
    yield from _columns("top_down.net", model.top_down, np.arange(model.num_levels - 1)[::-1])
    head = model.head
    for i, module, layout in (
        (0, head.norm_columns, None),
        (3, head.norm_in, None),
        (5, head.hidden, linear()),
        (6, head.norm_hidden, None),
        (8, head.norm_out, None),
        (10, head.out, linear()),
    ):
        yield from _affine(f"contrastive_head.{i}", module, layout)
    yield from _affine("classification_head_from_contr.0", model.classifier.hidden, linear())
    yield from _affine("classification_head_from_contr.2", model.classifier.out, linear())
    if model.radius > 0:
        blocked = ~neighbours(model.grid_size, model.radius)[None]
        yield _constant("attention.non_local_mask", blocked)


def _columns(name: str, networks: ColumnNetworks, order: np.ndarray) -> Entries:
    """Grouped 1x1 convolutions, and norms over columns; our level g is the group `order[g]`."""
    yield from _affine(f"{name}.1", networks.norm_in, None)
    yield Entry(f"{name}.2.weight", networks.kernel_in, _group_kernel(order))
    yield Entry(f"{name}.2.bias", networks.bias_in, _group_bias(order))
    yield from _affine(f"{name}.4", networks.norm_hidden, None)
    yield Entry(f"{name}.5.weight", networks.kernel_out, _group_kernel(order))
    yield Entry(f"{name}.5.bias", networks.bias_out, _group_bias(order))


def _group_kernel(order: np.ndarray) -> Layout:
    """`[G out, in, 1]` to `[G, in, out]`."""
    G = len(order)
    return Layout(
        lambda a: a[..., 0].reshape(G, -1, a.shape[1]).swapaxes(1, 2),
        lambda a: a.swapaxes(1, 2).reshape(-1, a.shape[1])[..., None],
    ).then(0, order)


def _group_bias(order: np.ndarray) -> Layout:
    """`[G out]` to `[G, out]`."""
    G = len(order)
    return Layout(lambda a: a.reshape(G, -1), lambda a: a.reshape(-1)).then(0, order)


def _affine(name: str, module: nnx.Module, layout: Layout | None) -> Entries:
    """Weight and bias of a linear map or, without a layout, of a norm."""
    kernel = module.scale if layout is None else module.kernel
    yield Entry(f"{name}.weight", kernel, layout or identity())
    yield Entry(f"{name}.bias", module.bias, identity())


def _batch_norm(name: str, norm: BatchNorm) -> Entries:
    yield from _affine(name, norm, None)
    yield Entry(f"{name}.running_mean", norm.mean, identity())
    yield Entry(f"{name}.running_var", norm.variance, identity())
    # A count that PyTorch keeps and, with a momentum, does not use: read by nobody, written as 0.
    count = Layout(lambda a: a, lambda a: a.astype(np.int64))
    yield Entry(f"{name}.num_batches_tracked", Buffer(jnp.zeros((), jnp.int32)), count)


def _constant(name: str, value: np.ndarray) -> Entry:
    """An official buffer that we compute."""

    def load(array: np.ndarray) -> np.ndarray:
        if not np.array_equal(array, value):
            raise UserError(f"{name} is not that of the model's image_size and radius.")
        return array

    return Entry(name, Buffer(jnp.asarray(value)), Layout(load, lambda array: array))
