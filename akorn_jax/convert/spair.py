"""Official names of SPAIR in karazijal/clevrtex.

`baseline`, a linear map that REINFORCE would need, is read and dropped, and written as zeros.
"""

import numpy as np

from akorn_jax.convert.layout import Entry, convolution, identity, linear
from akorn_jax.convert.parts import Entries, affine, blocks, constant, map_order
from akorn_jax.models import spair

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
    glimpse = map_order(model.glimpse_size, model.glimpse_size, 3)
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
    D = model.what_size
    mean, std = spair.WHERE_PRIOR
    background = 1
    if model.background_encoder is not None:
        background = model.background_decoder.in_features
    yield constant("_z_pres_temperature", np.ones((1, 1)), fixed=False)
    yield constant("_z_pres_prior_p", np.full((1, 1), 0.99), fixed=False)
    yield constant("_z_where_prior_loc", mean[None])
    yield constant("_z_where_prior_scale", std[None])
    yield constant("_z_what_prior_loc", np.zeros((1, D)))
    yield constant("_z_what_prior_scale", np.ones((1, D)))
    yield constant("_z_depth_prior_loc", np.zeros((1, 1)))
    yield constant("_z_depth_prior_scale", np.ones((1, 1)))
    yield constant("_z_bg_prior_loc", np.full((1, background), spair.BACKGROUND_PRIOR[0]))
    yield constant("_z_bg_prior_scale", np.full((1, background), spair.BACKGROUND_PRIOR[1]))
    yield constant("min_zw", spair.BOX_LOW)
    yield constant("max_zw", spair.BOX_HIGH)
    seen = model.where.layers[0].kernel.shape[0]
    yield constant("baseline.layers.0.weight", np.zeros((1, seen)), fixed=False)
    yield constant("baseline.layers.0.bias", np.zeros(1), fixed=False)


def _mlp(name: str, mlp: spair.MLP, inputs: list[int] | None = None) -> Entries:
    """`inputs`: the official places of what our first layer takes."""
    for i, layer in enumerate(mlp.layers):
        layout = linear()
        if i == 0 and inputs is not None:
            layout = layout.then(0, np.array(inputs))
        yield from affine(f"{name}.layers.{i}", layer, layout)


def _decoder(name: str, decoder: spair.UnpaddedDecoder) -> Entries:
    for i, layer in enumerate([*decoder.layers, decoder.out]):
        yield from affine(f"{name}.{2 * i}", layer, convolution())
