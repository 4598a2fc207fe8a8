"""Official names of SLATE, in two dialects.

- "official": singhgautam/slate;
- "hhousen": HHousen/object-discovery-pytorch, whose slot attention is always implicit and runs one
  iteration more than its configuration says: gradient="implicit", num_iterations=4 for its 3.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.convert import slot_attention
from akorn_jax.convert.layout import (
    Entry,
    Layout,
    convolution,
    identity,
    linear,
    patches,
    pointwise,
)
from akorn_jax.errors import UserError
from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.transformer import DecoderBlock, MultiHeadAttention
from akorn_jax.models import slate

Entries = Iterator[Entry]


@dataclasses.dataclass(frozen=True)
class Names:
    """The words of a dialect for the slot encoder, below `slot_attn.`."""

    norm: str
    mlp: str
    attention: str  # before the names of the slot attention's weights


OFFICIAL = Names("layer_norm", "mlp", "slot_attention.")
HHOUSEN = Names("input_layer_norm", "input_mlp", "")


def dialect(names: Iterable[str]) -> str:
    """The dialect of a state dict's names: "official" or "hhousen"."""
    hhousen = any(name.startswith("slot_attn.input_layer_norm") for name in names)
    return "hhousen" if hhousen else "official"


def entries(model: slate.Model, dialect: str = "official") -> list[Entry]:
    """Every official array of a model."""
    return [
        *_dvae(model.dvae),
        *_slot_encoder(model, HHOUSEN if dialect == "hhousen" else OFFICIAL),
        Entry("positional_encoder.pe", model.position, _leading_axis()),
        Entry("dictionary.dictionary.weight", model.embed.embedding, identity()),
        *_affine("slot_proj", model.slots_to_memory),
        *_transformer(model),
        *_affine("out", model.head),
    ]


def _dvae(dvae: slate.DiscreteVAE) -> Entries:
    first, *rest = dvae.encoder
    yield from _block("dvae.encoder.0", first, patches(slate.PATCH_SIZE))
    for i, block in enumerate(rest, start=1):
        yield from _block(f"dvae.encoder.{i}", block, pointwise())
    yield from _affine(f"dvae.encoder.{len(dvae.encoder)}", dvae.to_logits, pointwise())
    i = 0
    for blocks in (dvae.decoder, dvae.finer):
        for block in blocks:
            one = block.convolution.kernel.ndim == 2
            yield from _block(f"dvae.decoder.{i}", block, pointwise() if one else convolution())
            i += 1
        i += 1  # the pixel shuffle
    yield from _affine(f"dvae.decoder.{i}", dvae.to_image, pointwise())


def _block(name: str, block: slate.Block, layout: Layout) -> Entries:
    yield Entry(f"{name}.m.weight", block.convolution.kernel, layout)
    yield from _norm(name, block.norm)


def _slot_encoder(model: slate.Model, names: Names) -> Entries:
    yield from _norm(f"slot_attn.{names.norm}", model.norm_tokens)
    yield from _affine(f"slot_attn.{names.mlp}.0", model.token_hidden)
    yield from _affine(f"slot_attn.{names.mlp}.2", model.token_out)
    for entry in slot_attention.entries(model.slot_attention, "hhousen"):
        # Both repositories keep what initial slots are drawn from in the encoder itself.
        of_encoder = entry.name in ("slot_mu", "slot_log_sigma")
        prefix = "slot_attn." if of_encoder else f"slot_attn.{names.attention}"
        yield dataclasses.replace(entry, name=prefix + entry.name)


def _transformer(model: slate.Model) -> Entries:
    length = len(model.position) - 1
    for i, block in enumerate(model.decoder.blocks):
        yield from _decoder_block(f"tf_dec.blocks.{i}", block, length)
    yield from _norm("tf_dec.layer_norm", model.decoder.norm)


def _decoder_block(name: str, block: DecoderBlock, length: int) -> Entries:
    yield _future(f"{name}.self_attn_mask", length)
    yield from _norm(f"{name}.self_attn_layer_norm", block.norm_tokens)
    yield from _attention(f"{name}.self_attn", block.attend_tokens)
    yield from _norm(f"{name}.encoder_decoder_attn_layer_norm", block.norm_memory)
    yield from _attention(f"{name}.encoder_decoder_attn", block.attend_memory)
    yield from _norm(f"{name}.ffn_layer_norm", block.norm_mlp)
    yield from _affine(f"{name}.ffn.0", block.mlp_hidden)
    yield from _affine(f"{name}.ffn.2", block.mlp_out)


def _attention(name: str, attention: MultiHeadAttention) -> Entries:
    for which in ("q", "k", "v"):
        yield from _affine(f"{name}.proj_{which}", getattr(attention, f"to_{which}"))
    yield from _affine(f"{name}.proj_o", attention.out)


def _future(name: str, length: int) -> Entry:
    """True where a token (row) must not look: official state, and a constant of ours."""
    value = np.triu(np.ones((length, length), bool), 1)

    def load(array: np.ndarray) -> np.ndarray:
        if not np.array_equal(array, value):
            raise UserError(f"{name} is not the causal mask that this model is built on.")
        return array

    return Entry(name, Buffer(jnp.asarray(value)), Layout(load, lambda array: array))


def _leading_axis() -> Layout:
    """`[1, ...]` to `[...]`."""
    return Layout(lambda a: a[0], lambda a: a[None])


def _affine(name: str, module: nnx.Module, layout: Layout | None = None) -> Entries:
    yield Entry(f"{name}.weight", module.kernel, layout or linear())
    if module.bias is not None:
        yield Entry(f"{name}.bias", module.bias, identity())


def _norm(name: str, module: nnx.Module) -> Entries:
    yield Entry(f"{name}.weight", module.scale, identity())
    yield Entry(f"{name}.bias", module.bias, identity())
