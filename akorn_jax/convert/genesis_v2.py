"""Official names of GENESIS-V2 in karazijal/clevrtex, which are those of applied-ai-lab/genesis."""

from typing import Any

import numpy as np

from akorn_jax.convert import unet
from akorn_jax.convert.layout import (
    Entry,
    Part,
    affine,
    below,
    constant,
    identity,
    linear,
    norm,
    pointwise,
    transposed,
)
from akorn_jax.layers.soft_position import centred_grid
from akorn_jax.models import genesis_v2


def entries(model: genesis_v2.Model | genesis_v2.StickBreaking) -> list[Entry]:
    """Every official array of a model or of its stick breaking."""
    if isinstance(model, genesis_v2.StickBreaking):
        return _stick_breaking(model)
    found = [
        *below("encoder.", unet.entries(model.encoder, "genesis_v2")),
        *below("att_process.", _stick_breaking(model.stick_breaking)),
        *unet.block("seg_head", model.segment, "genesis_v2"),
        *unet.block("feat_head.0", model.describe, "genesis_v2"),
        *affine("feat_head.1", model.describe_out, pointwise()),
        *norm("z_head.0", model.norm),
        *affine("z_head.1", model.hidden, linear()),
        *affine("z_head.3", model.out, linear()),
        *below("decoder_module.", _decoder(model.decoder)),
        *_geco(model.encoder.image_size[0]),
    ]
    return found if model.prior is None else [*found, *_prior(model.prior)]


def _stick_breaking(layer: genesis_v2.StickBreaking) -> list[Entry]:
    found = [
        Entry("log_sigma", layer.log_sigma, identity()),
        *affine("colour_head", layer.embed, pointwise()),
    ]
    if layer.gate is not None:
        found.append(Entry("colour_head.gate", layer.gate, identity()))
    return found


def _decoder(decoder: genesis_v2.Decoder) -> list[Entry]:
    grid = centred_grid(decoder.grid_size, decoder.grid_size)
    found = [constant("0.coords", grid.transpose(2, 0, 1)[None])]
    for i, (layer, layer_norm) in enumerate(zip(decoder.layers, decoder.norms, strict=True)):
        found += affine(f"{3 * i + 1}", layer, transposed())
        found += norm(f"{3 * i + 2}", layer_norm)
    return [*found, *affine(f"{3 * len(decoder.layers) + 1}", decoder.out, pointwise())]


def _prior(prior: genesis_v2.Prior) -> list[Entry]:
    lstm = prior.lstm
    return [
        Entry("prior_lstm.weight_ih_l0", lstm.input_kernel, linear()),
        Entry("prior_lstm.weight_hh_l0", lstm.state_kernel, linear()),
        Entry("prior_lstm.bias_ih_l0", Part(lstm.bias, 0), identity()),
        Entry("prior_lstm.bias_hh_l0", Part(lstm.bias, 1), identity()),
        *affine("prior_linear", prior.out, linear()),
    ]


def _geco(image_size: int) -> list[Entry]:
    """GECO's settings and multiplier, which belong to a training and not to a model.

    They are not read, and written as a training of the published settings starts.
    """
    published: dict[str, Any] = {
        "goal": 0.5655 * 3 * image_size**2,
        "step_size": 1e-5 * (64 / image_size) ** 2,
        "alpha": 0.99,
        "beta": 1.0,
        "beta_min": 1e-10,
        "beta_max": 1e10,
        "speedup": 10.0,
    }
    return [
        constant(f"geco.{name}", np.array(value, np.float32), fixed=False)
        for name, value in published.items()
    ]
