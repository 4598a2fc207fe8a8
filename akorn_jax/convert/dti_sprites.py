"""Official names of DTI-Sprites (monniert/dti-sprites, and its copy in karazijal/clevrtex).

Two dialects: "module" has each array once; "checkpoint", which `torch.save` writes, repeats the
encoder in each of the transformers that share it, and counts the batches of every batch norm.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from akorn_jax.convert.layout import (
    Entry,
    Layout,
    Part,
    below,
    constant,
    convolution,
    identity,
    linear,
    reshaped,
)
from akorn_jax.convert.parts import basic_block, batch_norm
from akorn_jax.errors import UserError
from akorn_jax.layers.resnet import ResNet
from akorn_jax.layers.transformations import DEFORMATIONS, Regressors, Transformations
from akorn_jax.models.dti_sprites import Model

Entries = Iterator[Entry]

DIALECTS = ("module", "checkpoint")
COUNTER = "num_batches_tracked"
# What official modules add their parameters to.
IDENTITY = {
    "identity": np.zeros(0),
    "color": np.eye(3),
    "position": np.eye(2, 3),
    "similarity": np.eye(2, 3),
    "projective": np.eye(3),
}


def dialect(names: Iterable[str]) -> str:
    """The dialect of a state dict's names."""
    return "checkpoint" if any(name.endswith(COUNTER) for name in names) else "module"


def entries(model: Model, dialect: str = "module") -> list[Entry]:
    """Every official array of a model.

    Raises:
        UserError: there is no such dialect.
    """
    if dialect not in DIALECTS:
        raise UserError(f"dialect={dialect!r} is unknown; it is one of {', '.join(DIALECTS)}.")
    return list(_entries(model, dialect == "checkpoint"))


def _entries(model: Model, checkpoint: bool) -> Entries:
    S, h, w = model.masks.shape
    L = model.num_layers
    to_last = Layout(lambda a: a.transpose(0, 2, 3, 1), lambda a: a.transpose(0, 3, 1, 2))
    yield Entry("prototype_params", model.sprites, to_last)
    yield Entry("mask_params", model.masks, reshaped((S, h, w), (S, 1, h, w)))
    if model.background is not None:
        yield Entry(
            "bkg_params",
            model.background,
            Layout(lambda a: a[0].transpose(1, 2, 0), lambda a: a.transpose(2, 0, 1)[None]),
        )

    encoder = below("encoder.", _encoder(model.encoder, checkpoint))
    yield from encoder
    sequences = {"layer_transformer.": (model.layer_transformations, [(l,) for l in range(L)])}
    for l in range(L):
        choices = range(S + model.empty_sprite)
        sequences[f"sprite_transformers.{l}."] = (
            model.sprite_transformations,
            [(l, k) for k in choices],
        )
    if model.background is not None:
        sequences["bkg_transformer."] = (model.background_transformations, [()])
    for prefix, (transformations, indices) in sequences.items():
        for i, index in enumerate(indices):
            yield from below(
                f"{prefix}tsf_sequences.{i}.", _sequence(model, transformations, index)
            )
        if checkpoint:
            yield from below(prefix, encoder)

    if model.occlusion is not None:
        yield from below("occ_predictor.", _regressor(model.occlusion, ()))
    else:
        yield constant("occ_grid", np.tri(L, k=-1, dtype=np.float32))


def _sequence(model: Model, transformations: Transformations, index: tuple[int, ...]) -> Entries:
    """One sequence of transformations, `index` in the array of sequences."""
    waits = np.array([name in DEFORMATIONS for name in transformations.names])
    if waits.any():
        layout = Layout(lambda a: np.float32(a[waits].all()), lambda a: ~waits | (a > 0.5))
        yield Entry("activations", model.deforms, layout)
    else:
        yield constant("activations", ~waits)
    for i, name in enumerate(transformations.names):
        yield constant(f"tsf_modules.{i}.identity", IDENTITY[name].astype(np.float32))
        if name == "identity":
            features = model.encoder.out_features
            yield constant(f"tsf_modules.{i}.regressor.0.weight", np.zeros((0, features), "f"))
            yield constant(f"tsf_modules.{i}.regressor.0.bias", np.zeros(0, "f"))
        else:
            regressors = transformations.regressors[name]
            yield from below(f"tsf_modules.{i}.regressor.", _regressor(regressors, index))


def _regressor(regressors: Regressors, index: tuple[int, ...]) -> Entries:
    """One MLP, `index` in the array of MLPs."""
    for i, kernel, bias in zip((0, 3, 5), regressors.kernels, regressors.biases, strict=True):
        yield Entry(f"{i}.weight", Part(kernel, index), linear())
        yield Entry(f"{i}.bias", Part(bias, index), identity())


def _encoder(encoder: ResNet, counters: bool) -> Entries:
    """The layers of a `Sequential`: convolution, norm, ReLU, the max pool if any, stages."""
    yield Entry("encoder.0.weight", encoder.stem.kernel, convolution())
    yield from batch_norm("encoder.1", encoder.stem_norm, counter=counters)
    for i, stage in enumerate(encoder.stages, start=4 if encoder.max_pool else 3):
        for j, block in enumerate(stage):
            yield from basic_block(f"encoder.{i}.{j}", block, counter=counters)
