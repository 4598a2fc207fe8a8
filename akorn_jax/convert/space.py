"""Official names of SPACE in karazijal/clevrtex, which are those of zhixuan-lin/SPACE."""

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
    pointwise,
)
from akorn_jax.convert.parts import batch_norm, blocks, lstm
from akorn_jax.layers.component_background import ComponentBackground, ConvEncoder
from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder
from akorn_jax.models import space

Entries = Iterator[Entry]


def entries(model: space.Model) -> list[Entry]:
    """Every official array of a model."""
    return [*_foreground(model.foreground), *_background(model.background)]


def _foreground(model: space.Foreground) -> Entries:
    yield constant("fg_module.tau", np.float32(2.5), fixed=False)
    yield constant("fg_module.prior_z_pres_prob", np.float32(0.1), fixed=False)
    for part in ("what", "depth"):
        yield constant(f"fg_module.prior_{part}_mean", np.zeros(1, np.float32))
        yield constant(f"fg_module.prior_{part}_std", np.ones(1, np.float32))
    name = "fg_module.img_encoder"
    row, column = np.indices((model.grid_size, model.grid_size))
    yield constant(f"{name}.offset", np.float32([column, row]))
    yield from blocks(f"{name}.enc", model.encoder.layers)
    yield from blocks(f"{name}.enc_lat", model.lateral.layers)
    yield from blocks(f"{name}.enc_cat", [model.fuse])
    for part in ("scale", "shift", "pres", "depth"):
        yield from affine(f"{name}.z_{part}_net", getattr(model, part), pointwise())
    yield from blocks("fg_module.z_what_net.enc_cnn", model.glimpse_encoder.layers)
    yield from affine("fg_module.z_what_net.enc_what", model.what, linear())
    name = "fg_module.glimpse_dec"
    yield from blocks(f"{name}.dec", model.glimpse_decoder.layers)
    yield from affine(f"{name}.dec_o", model.rgb, convolution())
    yield from affine(f"{name}.dec_alpha", model.alpha, convolution())


def _background(model: ComponentBackground) -> Entries:
    yield Entry("bg_module.rnn_mask_h", model.h_0, identity())
    yield Entry("bg_module.rnn_mask_c", model.c_0, identity())
    yield Entry("bg_module.z_mask_0", model.z_0, identity())
    yield Entry("bg_module.rnn_mask_h_prior", model.prior_h_0, identity())
    yield Entry("bg_module.rnn_mask_c_prior", model.prior_c_0, identity())
    yield from _encoder("bg_module.image_enc.enc", model.encoder)
    yield from lstm("bg_module.rnn_mask", model.lstm)
    yield from affine("bg_module.predict_mask.fc", model.mask, linear())
    name = "bg_module.mask_decoder.dec"
    decoder = [*model.mask_decoder.layers, model.mask_block]
    yield from blocks(name, decoder)
    last = sum(4 if block.upscale > 1 else 3 for block in decoder)
    yield from affine(f"{name}.{last}", model.mask_out, convolution())
    yield from _encoder("bg_module.comp_encoder.enc", model.component_encoder)
    yield from _decoder("bg_module.comp_decoder.decoder", model.component_decoder)
    yield from lstm("bg_module.rnn_mask_prior", model.prior_lstm)
    yield from affine("bg_module.predict_mask_prior.fc", model.prior_mask, linear())
    for i, layer in enumerate(model.prior_component):
        yield from affine(f"bg_module.predict_comp_prior.mlp.{2 * i}", layer, linear())


def _encoder(name: str, encoder: ConvEncoder) -> Entries:
    pairs = list(zip(encoder.convolutions, encoder.norms, strict=True))
    for i, (conv, norm) in enumerate(pairs):
        yield from affine(f"{name}.{3 * i}", conv, convolution())
        yield from batch_norm(f"{name}.{3 * i + 1}", norm)
    channels = conv.bias.shape[0]
    size = int((encoder.out.kernel.shape[0] // channels) ** 0.5)
    layout = linear().then(0, map_order(channels, size, size))
    yield from affine(f"{name}.{3 * len(pairs) + 1}", encoder.out, layout)


def _decoder(name: str, decoder: ValidBroadcastDecoder) -> Entries:
    """Their positions are (x, y), ours (row, column)."""
    D = decoder.layers[0].kernel.shape[2] - 2
    swapped = np.array([*range(D), D + 1, D])
    layers = list(zip(decoder.layers, decoder.norms, strict=True))
    for i, (conv, norm) in enumerate(layers):
        layout = convolution() if i else convolution().then(2, swapped)
        yield from affine(f"{name}.{3 * i}", conv, layout)
        yield from batch_norm(f"{name}.{3 * i + 1}", norm)
    yield from affine(f"{name}.{3 * len(layers)}", decoder.out, convolution())
