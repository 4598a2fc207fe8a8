"""Official names of SPAIR in karazijal/clevrtex.

`baseline`, a linear map that REINFORCE would need, is read and dropped, and written as zeros.
"""

from collections.abc import Iterator

import numpy as np

from akorn_jax.convert.layout import (
    Entry,
    affine,
    constant,
    convolution,
    identity,
    linear,
    map_order,
)
from akorn_jax.convert.parts import blocks
from akorn_jax.layers.passing_mlp import PassingMLP
from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder
from akorn_jax.models import spair

Entries = Iterator[Entry]

# Nets and their official names.
NETS = {"where": "box_enc", "depth": "dep_enc", "pres": "pre_enc"}


def entries(model: spair.Model) -> list[Entry]:
    """Every official array of a model."""
    return list(_entries(model))


def _entries(model: spair.Model) -> Entries:
    yield Entry("empty_element", model.nowhere, identity())
    yield from _constants(model)
    if model.backbone.kind == "large":
        yield from blocks("backbone", model.backbone.layers)
    else:
        for i, layer in enumerate(model.backbone.layers):
            yield from affine(f"backbone.conv{i}", layer, convolution())
    for ours, official in NETS.items():
        yield from _mlp(official, getattr(model, ours))
    glimpse = map_order(3, model.glimpse_size, model.glimpse_size)
    before = model.what.layers[0].kernel.shape[0] - len(glimpse)
    yield from _mlp("obj_enc", model.what, [*range(before), *(before + glimpse)])
    yield from _decoder("_obj_dec", model.object_decoder)
    if model.background_encoder is not None:
        encoder = model.background_encoder
        for i, layer in enumerate(encoder.convolutions):
            yield from affine(f"bg_enc.{2 * i}", layer, convolution())
        # ReLU, mean and flattening are between them.
        index = 2 * len(encoder.convolutions) + 2
        yield from affine(f"bg_enc.{index}", encoder.hidden, linear())
        yield from affine(f"bg_enc.{index + 2}", encoder.out, linear())
        yield from _decoder("bg_dec", model.background_decoder)


def _constants(model: spair.Model) -> Entries:
    """Official state that is no state of ours."""
    priors = {
        "where": model.where_prior,
        "what": (np.zeros(model.what_size), np.ones(model.what_size)),
        "depth": (np.zeros(1), np.ones(1)),
        "bg": [np.full(max(model.background_size, 1), value) for value in spair.BACKGROUND_PRIOR],
    }
    for part, (mean, std) in priors.items():
        yield constant(f"_z_{part}_prior_loc", np.float32([mean]))
        yield constant(f"_z_{part}_prior_scale", np.float32([std]))
    yield constant("_z_pres_temperature", np.float32([[1]]), fixed=False)
    yield constant("_z_pres_prior_p", np.float32([[0.99]]), fixed=False)
    yield constant("min_zw", spair.BOX_LOW)
    yield constant("max_zw", spair.BOX_HIGH)
    seen = model.where.layers[0].kernel.shape[0]
    yield constant("baseline.layers.0.weight", np.zeros((1, seen), np.float32), fixed=False)
    yield constant("baseline.layers.0.bias", np.zeros(1, np.float32), fixed=False)


def _mlp(name: str, mlp: PassingMLP, inputs: list[int] | None = None) -> Entries:
    """`inputs`: the official places of what our first layer takes."""
    for i, layer in enumerate(mlp.layers):
        layout = linear()
        if i == 0 and inputs is not None:
            layout = layout.then(0, np.array(inputs))
        yield from affine(f"{name}.layers.{i}", layer, layout)


def _decoder(name: str, decoder: ValidBroadcastDecoder) -> Entries:
    for i, layer in enumerate([*decoder.layers, decoder.out]):
        yield from affine(f"{name}.{2 * i}", layer, convolution())
