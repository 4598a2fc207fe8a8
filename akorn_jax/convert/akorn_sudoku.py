"""Official names of AKOrN for Sudoku."""

from collections.abc import Iterator

from akorn_jax.convert.akorn import kuramoto, norms
from akorn_jax.convert.layout import Entry, affine, identity, pointwise
from akorn_jax.models import akorn_sudoku


def entries(model: akorn_sudoku.Model) -> list[Entry]:
    """Every official array, also `x0`, which neither code reads."""
    return list(_entries(model))


def _entries(model: akorn_sudoku.Model) -> Iterator[Entry]:
    yield Entry("gamma", model.gamma, identity())
    yield Entry("x0", model.x0, identity())
    yield Entry("embedding.weight", model.embedding, identity())
    for l, (layer, readout) in enumerate(zip(model.layers, model.readouts, strict=True)):
        name = f"layers.{l}"
        yield from kuramoto(f"{name}.0", layer)
        if isinstance(readout, akorn_sudoku.NonlinearReadout):
            yield from norms(f"{name}.1.0", readout.norms)
            yield from affine(f"{name}.1.1.fn.fn.0.fn.2", readout.hidden, pointwise())
            yield from affine(f"{name}.1.1.fn.fn.1.fn.2", readout.residual, pointwise())
            yield from affine(f"{name}.1.2.fn.2", readout.out, pointwise())
        else:
            yield from norms(f"{name}.1.0", readout)
    yield from affine("out.1", model.out, pointwise())
