"""Official names of the U-Net, in two dialects: MONet's and GENESIS-V2's in karazijal/clevrtex."""

from collections.abc import Iterable

from akorn_jax.convert.layout import (
    Entry,
    affine,
    convolution,
    identity,
    linear,
    map_order,
    norm,
)
from akorn_jax.layers.unet import Block, UNet


def dialect(names: Iterable[str]) -> str:
    """The dialect of a state dict's names: "monet" or "genesis_v2"."""
    return "monet" if any(name.startswith("downblocks.") for name in names) else "genesis_v2"


def entries(model: UNet, dialect: str = "monet") -> list[Entry]:
    """Every official array of a U-Net."""
    way = "{}blocks.{}" if dialect == "monet" else "{}.{}"
    found = []
    for direction, blocks in (("down", model.down), ("up", model.up)):
        for i, layer in enumerate(blocks):
            found += block(way.format(direction, i), layer, dialect)
    h, w = (n >> (len(model.down) - 1) for n in model.image_size)
    order = map_order(model.mlp[0].kernel.shape[0] // (h * w), h, w)
    first, middle, last = model.mlp
    found += affine("mlp.1", first, linear().then(0, order))
    found += affine("mlp.3", middle, linear())
    found += affine("mlp.5", last, linear().then(1, order), identity().then(0, order))
    return found


def block(name: str, layer: Block, dialect: str) -> list[Entry]:
    """A block's arrays; GENESIS-V2 numbers the convolution and the norm."""
    conv_name, norm_name = ("conv", "norm") if dialect == "monet" else ("0", "1")
    weight = Entry(f"{name}.{conv_name}.weight", layer.conv.kernel, convolution())
    return [weight, *norm(f"{name}.{norm_name}", layer.norm)]
