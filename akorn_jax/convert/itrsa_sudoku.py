"""Official names of ItrSA for Sudoku, in AKOrN's repository."""

from collections.abc import Iterator

from akorn_jax.convert.akorn import attention
from akorn_jax.convert.layout import Entry, affine, identity, linear, norm, reshaped
from akorn_jax.models import itrsa_sudoku


def entries(model: itrsa_sudoku.Model) -> list[Entry]:
    """Every official array."""
    return list(_entries(model))


def _entries(model: itrsa_sudoku.Model) -> Iterator[Entry]:
    yield Entry("embedding.weight", model.embedding, identity())
    if model.position is not None:
        n, _, channels = model.position.shape
        yield Entry("pos_embed", model.position, reshaped((n, n, channels), (n * n, channels)))
    for l, block in enumerate(model.blocks):
        prefix = f"transformer_encoder.{l}"
        yield from norm(f"{prefix}.layernorm1", block.norm)
        yield from attention(f"{prefix}.attn", block.mixer, linear())
        yield from norm(f"{prefix}.layernorm2", block.mlp_norm)
        yield from affine(f"{prefix}.mlp.0", block.mlp.hidden, linear())
        yield from affine(f"{prefix}.mlp.2", block.mlp.out, linear())
    yield from norm("out.0", model.norm)
    yield from affine("out.1", model.out, linear())
