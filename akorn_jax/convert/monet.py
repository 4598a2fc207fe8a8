"""Official names of MONet in karazijal/clevrtex."""

import numpy as np

from akorn_jax.convert import unet
from akorn_jax.convert.layout import (
    Entry,
    affine,
    below,
    constant,
    convolution,
    linear,
    map_order,
    pointwise,
)
from akorn_jax.models import monet


def entries(model: monet.Model | monet.Attention) -> list[Entry]:
    """Every official array of a model or of its attention network."""
    if isinstance(model, monet.Attention):
        return _attention(model)
    return [
        *_priors(model.latent_size),
        *below("att.", _attention(model.attention)),
        *below("enc.", _encoder(model.encoder, model.image_size)),
        *below("dec.", _decoder(model)),
    ]


def _attention(attention: monet.Attention) -> list[Entry]:
    return [*unet.entries(attention.unet, "monet"), *affine("output", attention.out, pointwise())]


def _encoder(encoder: monet.Encoder, image_size: int) -> list[Entry]:
    found = []
    for i, layer in enumerate(encoder.convolutions):
        found += affine(str(2 * i), layer, convolution())
    side = -(-image_size // 16)
    order = map_order(encoder.hidden.kernel.shape[0] // side**2, side, side)
    found += affine("9", encoder.hidden, linear().then(0, order))
    return [*found, *affine("11", encoder.out, linear())]


def _decoder(model: monet.Model) -> list[Entry]:
    found = []
    for i, layer in enumerate([*model.decoder.layers, model.decoder.out]):
        found += affine(str(2 * i), layer, convolution())
    return found


def _priors(latent_size: int) -> list[Entry]:
    """Priors that all models of that repository have, most of them unused here."""
    values = {
        "depth_prior_loc": np.zeros((1, 1), np.float32),
        "depth_prior_scale": np.ones((1, 1), np.float32),
        "pres_prior_p": np.ones((1, 1), np.int64),
        "pres_temperature": np.ones((1, 1), np.float32),
        "what_prior_loc": np.zeros((1, latent_size), np.float32),
        "what_prior_scale": np.ones((1, latent_size), np.float32),
        "where_prior_loc": np.zeros((1, 4), np.int64),
        "where_prior_scale": np.ones((1, 4), np.int64),
    }
    return [constant(f"_z_{name}", value) for name, value in values.items()]
