"""Official names of AKOrN for recognition."""

from collections.abc import Iterator

from akorn_jax.convert.akorn import kuramoto
from akorn_jax.convert.layout import (
    Entry,
    affine,
    below,
    convolution,
    identity,
    linear,
    norm,
)
from akorn_jax.convert.parts import batch_norm
from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.models.akorn_classifier import Model, NormedConv, Stage


def entries(model: Model) -> list[Entry]:
    """Every official array of a model.

    One convolution lets both oscillators and stimulus into a stage, and has two official names.
    """
    found = [
        Entry("gamma", model.gamma, identity()),
        Entry("conv0.weight", model.stem.kernel, convolution()),
        *affine("out", model.classifier, linear()),
    ]
    for l, stage in enumerate(model.stages):
        found += below(f"layers.{l}.", _stage(stage))
    return found


def _stage(stage: Stage) -> Iterator[Entry]:
    if stage.enter is not None:
        yield from affine("0.0", stage.enter, convolution())
        yield from affine("0.1", stage.enter, convolution())
    yield from kuramoto("2", stage.layer)
    yield from affine("3.0.invconv", stage.readout.project, convolution())
    yield Entry("3.0.bias", stage.readout.bias, identity())
    for i, conv in enumerate(stage.residual):
        yield from _normed(f"3.1.fn.fn.{i}.fn", conv)
    yield from _normed("3.2.fn", stage.out)


def _normed(name: str, module: NormedConv) -> Iterator[Entry]:
    if isinstance(module.norm, BatchNorm):
        yield from batch_norm(f"{name}.0", module.norm, counter=True)
    elif module.norm is not None:
        yield from norm(f"{name}.0", module.norm)
    yield from affine(f"{name}.2", module.conv, convolution())
