"""Official names of Slot Attention, in three dialects.

- EmbodiedVision/slot_attention_normalization: the GRU as Keras stores it (gates z, r, n);
- the same with PyTorch's GRUCell (gates r, z, n);
- HHousen/object-discovery-pytorch.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from flax import nnx

from akorn_jax.convert.layout import (
    Entry,
    Layout,
    Part,
    constant,
    convolution,
    identity,
    linear,
    reshaped,
    transposed,
)
from akorn_jax.errors import UserError
from akorn_jax.layers.gru import GRU
from akorn_jax.layers.slot_attention import SlotAttention
from akorn_jax.layers.slot_encoder import ACTIVATIONS, SlotEncoder
from akorn_jax.layers.soft_position import soft_grid
from akorn_jax.models import set_prediction, slot_attention

Entries = Iterator[Entry]


@dataclasses.dataclass(frozen=True)
class Names:
    """The words of a dialect for the parts of a slot attention."""

    mu: str
    log_sigma: str
    norm_inputs: str
    norm_slots: str
    norm_mlp: str
    project: str


EMBODIED = Names("slots_mu", "slots_logsigma", "norm_input", "norm_slots", "norm_pre_ff", "to_")
HHOUSEN = Names("slot_mu", "slot_log_sigma", "norm_inputs", "norm_slots", "norm_mlp", "project_")


def dialect(names: Iterable[str]) -> str:
    """The dialect of a state dict's names: "keras_gru", "torch_gru" or "hhousen"."""
    names = list(names)
    if any(name.endswith("project_q.weight") for name in names):
        return "hhousen"
    torch_gru = any(name.endswith("gru.weight_ih") for name in names)
    return "torch_gru" if torch_gru else "keras_gru"


def entries(model: nnx.Module, dialect: str = "keras_gru") -> list[Entry]:
    """Every official array of a model or of a `SlotAttention` layer.

    Raises:
        UserError: the dialect's repository has no such model.
    """
    torch_gru = dialect != "keras_gru"
    if isinstance(model, SlotAttention):
        names = HHOUSEN if dialect == "hhousen" else EMBODIED
        return list(_slot_attention("", model, names, torch_gru))
    if isinstance(model, set_prediction.Model):
        return list(_set_prediction(model, torch_gru))
    return list(_hhousen(model) if dialect == "hhousen" else _embodied(model, torch_gru))


def _embodied(model: slot_attention.Model, torch_gru: bool) -> Entries:
    yield from _encoder(model.encoder, cnn="encoder_cnn", position="encoder_pos")
    yield from _slot_attention("slot_attention.", model.slot_attention, EMBODIED, torch_gru)
    decoder = model.decoder
    yield from _position("decoder_pos", "pos_embedding", decoder.position, decoder.grid_size)
    for i, layer in enumerate([*decoder.layers, decoder.out]):
        name = f"decoder_cnn.{2 * i}"
        if decoder.kind != "up_convolve":
            yield from _affine(name, layer, transposed())
        elif layer is decoder.out:
            yield from _affine(name, layer, convolution())
        else:
            spread = np.zeros((layer.kernel.shape[2], 1, 2, 2), np.float32)
            spread[:, :, 0, 0] = 1
            yield constant(f"{name}.unpool.weights", spread)
            yield from _affine(f"{name}.conv", layer, convolution())


def _set_prediction(model: set_prediction.Model, torch_gru: bool) -> Entries:
    yield from _encoder(model.encoder, cnn="cnn_encoder", position="pos_embed")
    yield from _slot_attention("slot_attention.", model.slot_attention, EMBODIED, torch_gru)
    yield from _affine("mlp.0", model.head_hidden, linear())
    yield from _affine("mlp.2", model.head_out, linear())


def _hhousen(model: slot_attention.Model) -> Entries:
    encoder, decoder = model.encoder, model.decoder
    if encoder.norm is not None or encoder.activation is not ACTIVATIONS["leaky_relu"]:
        raise UserError(
            "HHousen's weights were trained with other parts than the model has; set "
            "encoder_norm='none', activation='leaky_relu', gradient='implicit', num_iterations=4."
        )
    for i, layer in enumerate(encoder.convolutions):
        yield from _affine(f"encoder.{i}.0", layer, convolution())
    yield from _position("encoder_pos_embedding", "grid", encoder.position, encoder.grid_size)
    yield from _affine("encoder_out_layer.0", encoder.hidden, linear())
    yield from _affine("encoder_out_layer.2", encoder.out, linear())
    yield from _slot_attention("slot_attention.", model.slot_attention, HHOUSEN, torch_gru=True)
    yield from _position("decoder_pos_embedding", "grid", decoder.position, decoder.grid_size)
    for i, layer in enumerate(decoder.layers):
        yield from _affine(f"decoder.{i}.0", layer, transposed())
    yield from _affine(f"decoder.{len(decoder.layers) - 1}.2", decoder.out, transposed())


def _encoder(encoder: SlotEncoder, *, cnn: str, position: str) -> Entries:
    for i, layer in enumerate(encoder.convolutions):
        yield from _affine(f"{cnn}.{2 * i}", layer, convolution())
    yield from _position(position, "pos_embedding", encoder.position, encoder.grid_size)
    if encoder.norm is not None:
        yield from _norm("layer_norm", encoder.norm)
    yield from _affine("feature_mlp.0", encoder.hidden, linear())
    yield from _affine("feature_mlp.2", encoder.out, linear())


def _slot_attention(prefix: str, layer: SlotAttention, names: Names, torch_gru: bool) -> Entries:
    yield _reshaped(f"{prefix}{names.mu}", layer.mu, (1, *layer.mu.shape))
    yield _reshaped(f"{prefix}{names.log_sigma}", layer.log_sigma, (1, *layer.mu.shape))
    for norm in ("norm_inputs", "norm_slots", "norm_mlp"):
        yield from _norm(f"{prefix}{getattr(names, norm)}", getattr(layer, norm))
    for which in "qkv":
        yield from _affine(
            f"{prefix}{names.project}{which}", getattr(layer, f"to_{which}"), linear()
        )
    yield from (_torch_gru if torch_gru else _keras_gru)(f"{prefix}gru", layer.gru)
    yield from _affine(f"{prefix}mlp.0", layer.mlp_hidden, linear())
    yield from _affine(f"{prefix}mlp.2", layer.mlp_out, linear())
    if layer.aggregation == "layer_norm":
        yield from _norm(f"{prefix}update_ln", layer.norm_updates)
    elif layer.aggregation == "image_level":
        yield _reshaped(f"{prefix}update_ln.gamma", layer.norm_updates.gamma, (1,))
        yield _reshaped(f"{prefix}update_ln.beta", layer.norm_updates.beta, (1,))
    elif layer.aggregation == "scalar_batch_norm":
        name, norm = f"{prefix}update_normalizer", layer.norm_updates
        yield _reshaped(f"{name}.gamma", norm.gamma, (1, 1, 1, 1))
        yield _reshaped(f"{name}.beta", norm.beta, (1, 1, 1, 1))
        yield _reshaped(f"{name}.means", norm.mean, (1,))
        yield _reshaped(f"{name}.variances", norm.variance, (1,))


def _keras_gru(name: str, gru: GRU) -> Entries:
    yield Entry(f"{name}.kernel", gru.input_kernel, identity())
    yield Entry(f"{name}.recurrent_kernel", gru.state_kernel, identity())
    yield Entry(f"{name}.bias", gru.bias, identity())


def _torch_gru(name: str, gru: GRU) -> Entries:
    z, r, n = np.split(np.arange(gru.bias.shape[1]), 3)
    order = np.concatenate([r, z, n])  # to take z, r, n from r, z, n
    yield Entry(f"{name}.weight_ih", gru.input_kernel, linear().then(1, order))
    yield Entry(f"{name}.weight_hh", gru.state_kernel, linear().then(1, order))
    yield Entry(f"{name}.bias_ih", Part(gru.bias, 0), identity().then(0, order))
    yield Entry(f"{name}.bias_hh", Part(gru.bias, 1), identity().then(0, order))


def _position(name: str, buffer: str, module: nnx.Module, size: int) -> Entries:
    grid = soft_grid(size, size)
    yield constant(f"{name}.{buffer}", grid[None] if buffer == "grid" else grid)
    yield from _affine(f"{name}.dense", module.project, linear())


def _affine(name: str, module: nnx.Module, layout: Layout) -> Entries:
    yield Entry(f"{name}.weight", module.kernel, layout)
    if module.bias is not None:
        yield Entry(f"{name}.bias", module.bias, identity())


def _norm(name: str, module: nnx.Module) -> Entries:
    yield Entry(f"{name}.weight", module.scale, identity())
    yield Entry(f"{name}.bias", module.bias, identity())


def _reshaped(name: str, variable: nnx.Variable, official: tuple[int, ...]) -> Entry:
    """The same numbers in another shape."""
    return Entry(name, variable, reshaped(variable.shape, official))
