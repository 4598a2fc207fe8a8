"""Official names of AKOrN and ItrSA (object discovery), and of the layers that others share."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from akorn_jax.convert.layout import (
    Entry,
    Layout,
    channels,
    convolution,
    identity,
    linear,
    patches,
    pointwise,
    table,
)
from akorn_jax.errors import UserError
from akorn_jax.layers.attention import Attention
from akorn_jax.layers.convolution import GridConv
from akorn_jax.layers.head import ProjectionHead
from akorn_jax.layers.kuramoto import KuramotoLayer, ScaleAndBias
from akorn_jax.layers.oscillators import Readout
from akorn_jax.layers.patch import PatchEmbedding
from akorn_jax.models import akorn, itrsa


def entries(model: akorn.Model) -> list[Entry]:
    """Every official array of an AKOrN."""
    return list(_akorn(model))


def itrsa_entries(model: itrsa.Model) -> list[Entry]:
    """Every official array of an ItrSA."""
    return list(_itrsa(model))


def _akorn(model: akorn.Model) -> Iterator[Entry]:
    yield Entry("gamma", model.gamma, identity())
    yield from _patches("patchfy.1", model.patches)
    if model.position_c is not None:
        yield Entry("pemb_c", model.position_c, table())
        yield Entry("pemb_x", model.position_x, table())
    for l, layer in enumerate(model.layers):
        yield from kuramoto(f"layers.{l}.0", layer)
        readout = model.readouts[l]
        if readout is not None:
            yield from norms(f"layers.{l}.1", readout)
        if l < len(model.readouts_x) and model.readouts_x[l] is not None:
            yield from _affine(f"layers.{l}.2", model.readouts_x[l], pointwise())
    yield from _head(model.head)


def _itrsa(model: itrsa.Model) -> Iterator[Entry]:
    if model.position is not None:
        yield Entry("pos_embed", model.position, table())
    yield from _patches("patchfy.1", model.patches)
    for l, block in enumerate(model.blocks):
        prefix = f"transformer_encoder.{l}"
        yield from _layer_norm(f"{prefix}.layernorm1", block.norm)
        yield from attention(f"{prefix}.attn", block.mixer, pointwise())
        yield from _layer_norm(f"{prefix}.layernorm2", block.mlp_norm)
        yield from _affine(f"{prefix}.mlp.0", block.mlp.hidden, pointwise())
        yield from _affine(f"{prefix}.mlp.2", block.mlp.out, pointwise())
    yield from _layer_norm("out.0", model.norm)
    yield from _head(model.head)


def _affine(name: str, module: nnx.Module, layout) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", module.kernel, layout)
    yield Entry(f"{name}.bias", module.bias, identity())


def _patches(name: str, module: PatchEmbedding) -> Iterator[Entry]:
    yield from _affine(name, module.project, patches(module.patch_size))


def _layer_norm(name: str, module: nnx.LayerNorm) -> Iterator[Entry]:
    yield Entry(f"{name}.gamma", module.scale, channels(rank=4))
    yield Entry(f"{name}.beta", module.bias, channels(rank=4))


def _head(module: ProjectionHead) -> Iterator[Entry]:
    yield from _affine("out.3", module.hidden, linear())
    yield from _affine("out.5", module.out, linear())


def norms(name: str, readout: Readout) -> Iterator[Entry]:
    """A readout of norms."""
    yield from _affine(f"{name}.invconv", readout.project, pointwise())
    yield Entry(f"{name}.bias", readout.bias, identity())


def kuramoto(name: str, layer: KuramotoLayer) -> Iterator[Entry]:
    """A Kuramoto layer.

    Raises:
        UserError: the official code has no such layer.
    """
    if layer.omega is not None:
        yield Entry(f"{name}.omg.omg_param", layer.omega.vectors, identity())
    if isinstance(layer.J, Attention):
        yield from attention(f"{name}.connectivity", layer.J, pointwise())
    elif isinstance(layer.J, GridConv):
        yield from _affine(f"{name}.connectivity", layer.J, convolution())
    else:
        raise UserError("connectivity='mlp': the official code has no such model.")
    if layer.norm is not None:
        scale = "scale" if isinstance(layer.norm, ScaleAndBias) else "weight"
        yield Entry(f"{name}.c_norm.{scale}", layer.norm.scale, identity())
        yield Entry(f"{name}.c_norm.bias", layer.norm.bias, identity())


def attention(name: str, module: Attention, kernel: Layout) -> Iterator[Entry]:
    """Self-attention whose projections are of a kind `pointwise()` or `linear()`.

    Officially the head is the fastest index of a channel; here it is the slowest.

    Within a head, GTA officially pairs the dimensions 2 f and 2 f + 1; here f and f + d / 2.
    """
    size = module.out.kernel.shape[0]
    dims = np.arange(size // module.heads)
    if module.gta is not None:
        dims = np.concatenate([dims[0::2], dims[1::2]])
    order = (dims[None, :] * module.heads + np.arange(module.heads)[:, None]).reshape(-1)
    order_qkv = np.concatenate([order, size + order, 2 * size + order])
    yield Entry(f"{name}.W_qkv.weight", module.qkv.kernel, kernel.then(1, order_qkv))
    yield Entry(f"{name}.W_qkv.bias", module.qkv.bias, identity().then(0, order_qkv))
    yield Entry(f"{name}.W_o.weight", module.out.kernel, kernel.then(0, order))
    yield Entry(f"{name}.W_o.bias", module.out.bias, identity())
    if module.gta is not None:
        for which in "qkvo":
            yield Entry(f"{name}.mat_{which}", getattr(module.gta, which), identity())
