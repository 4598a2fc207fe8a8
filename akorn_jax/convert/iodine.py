"""Official names of IODINE in karazijal/clevrtex."""

from collections.abc import Iterator

import numpy as np

from akorn_jax.convert.layout import (
    Entry,
    Part,
    affine,
    channels,
    constant,
    convolution,
    identity,
    linear,
    norm,
    table,
)
from akorn_jax.models import iodine

Entries = Iterator[Entry]


def entries(model: iodine.Model) -> list[Entry]:
    """Every official array of a model."""
    return list(_entries(model))


def _entries(model: iodine.Model) -> Entries:
    yield Entry("lamda_0", model.posterior, channels(2))
    log_std = np.full((1, model.num_slots, 1, 1, 1), np.log(model.std), np.float32)
    yield constant("gmm_log_scale", log_std)
    decoder = model.decoder
    for i, layer in enumerate([*decoder.layers, decoder.out]):
        layout = convolution()
        if i == 0:  # theirs appends (x, y) to the slot, ours (y, x)
            Z = model.slot_size
            layout = layout.then(2, np.array([*range(Z), Z + 1, Z]))
        yield from affine(f"image_decoder.decode.{2 * i}", layer, layout)
    refinement = model.refinement
    for i, layer in enumerate(refinement.convolutions):
        yield from affine(f"refine_net.conv.{2 * i}", layer, convolution())
    # Behind the convolutions, pooling and flattening are numbered too.
    hidden = 2 * len(refinement.convolutions) + 2
    yield from affine(f"refine_net.conv.{hidden}", refinement.hidden, linear())
    lstm = refinement.lstm
    yield Entry("refine_net.lstm.weight_ih_l0", lstm.input_kernel, linear())
    yield Entry("refine_net.lstm.weight_hh_l0", lstm.state_kernel, linear())
    yield Entry("refine_net.lstm.bias_ih_l0", Part(lstm.bias, 0), identity())
    yield Entry("refine_net.lstm.bias_hh_l0", Part(lstm.bias, 1), identity())
    yield from affine("refine_net.ref_head", refinement.out, linear())
    norms = (model.norm_likelihood, model.norm_without, model.norm_means, model.norm_log_masks)
    for i, of_maps in enumerate(norms):
        yield Entry(f"layer_norms.{i}.weight", of_maps.scale, table())
        yield Entry(f"layer_norms.{i}.bias", of_maps.bias, table())
    for i, of_vectors in enumerate((model.norm_loc, model.norm_raw), start=len(norms)):
        yield from norm(f"layer_norms.{i}", of_vectors)
