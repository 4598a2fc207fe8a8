"""Official names of DINOSAUR (EmbodiedVision/slot_attention_normalization)."""

from collections.abc import Iterator

from flax import nnx

from akorn_jax import convert
from akorn_jax.convert import slot_attention
from akorn_jax.convert.layout import Entry, below, identity, linear, reshaped
from akorn_jax.errors import UserError
from akorn_jax.models import dinosaur


def entries(model: dinosaur.Model) -> list[Entry]:
    """Every official array; those of the encoder, where there is one, by its own weight map.

    Raises:
        UserError: the official model has no such parts.
    """
    if model.position is not None or model.statistics is not None:
        raise UserError(
            "The official DINOSAUR takes features as they are; set position=False and "
            "standardize=False."
        )
    return list(_entries(model))


def _entries(model: dinosaur.Model) -> Iterator[Entry]:
    if model.encoder is not None:
        yield from below("encoder.", convert.weight_map(model.encoder).entries(model.encoder))
    yield Entry("feature_layer_norm.weight", model.norm.scale, identity())
    yield Entry("feature_layer_norm.bias", model.norm.bias, identity())
    yield from _affine("feature_mlp.0", model.hidden)
    yield from _affine("feature_mlp.2", model.out)
    yield from below("slot_attention.", slot_attention.entries(model.slot_attention))
    position = model.decoder.position
    h, w, size = position.shape
    yield Entry(
        "mlp_decoder.decoder_pos_encoding", position, reshaped((h, w, size), (1, 1, h * w, size))
    )
    for i, layer in enumerate(model.decoder.layers):
        yield from _affine(f"mlp_decoder.mlp_decoder.{2 * i}", layer)


def _affine(name: str, module: nnx.Module) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", module.kernel, linear())
    yield Entry(f"{name}.bias", module.bias, identity())
