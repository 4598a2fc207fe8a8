"""Official names of MarioNette (dmsm/MarioNette, and its copy in karazijal/clevrtex).

The official code saves the model and the background dictionary in two files. Their names are told
apart here by the prefixes `model.` and `bg.`.
"""

from collections.abc import Iterator

from akorn_jax.convert.layout import (
    Entry,
    affine,
    below,
    convolution,
    identity,
    linear,
    map_order,
    norm,
)
from akorn_jax.models.marionette import Dictionary, Encoder, Head, Model

Entries = Iterator[Entry]


def entries(model: Model) -> list[Entry]:
    """Every official array of a model."""
    return list(_entries(model))


def _entries(model: Model) -> Entries:
    yield from below("model.im_encoder.", _encoder(model.encoder))
    yield from affine("model.project.0", model.project, linear())
    yield from below("model.encoder_xform.", _encoder(model.patch_encoder))
    yield from below("model.probs.", _head(model.presence))
    yield from below("model.shifts.", _head(model.shift))
    yield from below("model.learned_dict.", _dictionary(model.sprites))
    if model.background_color is not None:
        yield Entry("model.bg_color", model.background_color, identity())
    else:
        yield from below("model.bg_encoder.", _encoder(model.background_encoder))
        yield from affine("model.bg_project.0", model.background_project, linear())
        yield from below("bg.", _dictionary(model.backgrounds))


def _encoder(encoder: Encoder) -> Entries:
    for i, block in enumerate(encoder.blocks):
        for name in ("conv1", "conv2"):
            yield from affine(f"blocks.{i}.{name}", getattr(block, name), convolution())
        for name in ("norm1", "norm2"):
            yield from norm(f"blocks.{i}.{name}", getattr(block, name))
    for i, head in enumerate(encoder.heads):
        yield from affine(f"heads.{i}", head, convolution())


def _head(head: Head) -> Entries:
    yield from affine("0", head.hidden, linear())
    yield from norm("1", head.norm)
    yield from affine("3", head.out, linear())


def _dictionary(dictionary: Dictionary) -> Entries:
    """The decoder's outputs are pixels, row by row, channels first in the official code."""
    h, w, c = dictionary.shape
    order = map_order(c, h, w)
    yield Entry("latent", dictionary.codes, identity())
    yield from affine("decode.0", dictionary.hidden, linear())
    yield from norm("decode.1", dictionary.norm)
    yield from affine(
        "decode.3", dictionary.out, linear().then(1, order), identity().then(0, order)
    )
