"""A Vision Transformer whose patch tokens are features, e.g. of DINO (arXiv 2104.14294)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.linear import linear
from akorn_jax.layers.patch import pair, token_grid
from akorn_jax.layers.resize import resize_bicubic
from akorn_jax.layers.vit import ViT
from akorn_jax.outputs import ModelOutput

Array = jax.Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Model(nnx.Module):
    """Normalises and resizes images, and gives the patch tokens after the final norm as features.

    Args:
        image_size: H = W, or (H, W), that images are resized to: bicubic (a = -0.75), not clamped.
        pretrained_size: the image size that the table of positions is for; None: `image_size`. The
            table is resized to what the images need.
        patch_size, width, depth, heads, mlp_ratio, mlp, num_registers, class_position, layer_scale:
            see `ViT`.
        num_classes: of a linear head on the class token; 0: no head.
        mean, std: of the colours in the training data.

    Raises:
        ValueError: patches do not tile the images of `image_size` or `pretrained_size`.
    """

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 224,
        pretrained_size: int | None = None,
        patch_size: int = 16,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        mlp_ratio: float = 4.0,
        mlp: str = "gelu",
        num_registers: int = 0,
        class_position: bool = True,
        layer_scale: bool = False,
        num_classes: int = 0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.image_size = pair(image_size)
        token_grid(self.image_size, patch_size)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.vit = ViT(
            image_size=self.image_size if pretrained_size is None else pretrained_size,
            patch_size=patch_size,
            width=width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            mlp=mlp,
            num_registers=num_registers,
            class_position=class_position,
            layer_scale=layer_scale,
            rngs=rngs,
        )
        self.head = linear(width, num_classes, rngs=rngs) if num_classes else None

    def __call__(
        self,
        images: Array,
        *,
        key: Array | None = None,
        train: bool = False,
        trajectory: bool = False,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to features `[B, h, w, C]`.

        Nothing is random and nothing differs in training: `key` and `train` are what every model
        takes. `embedding` is the class token `[B, C]`, `logits` what the head makes of it, and with
        `trajectory` the patch tokens after every block are kept.
        """
        images = resize_bicubic(self.normalise(images), self.image_size)
        tokens, states = self.vit(images)
        return ModelOutput(
            features=self.vit.patch_map(tokens, images),
            embedding=tokens[:, 0],
            logits=None if self.head is None else self.head(tokens[:, 0]),
            trajectory={"tokens": tuple(self.vit.patch_map(x, images)[None] for x in states)}
            if trajectory
            else None,
        )

    def normalise(self, images: Array) -> Array:
        """Images `[..., 3]` in [0, 1] with the colours' mean 0 and standard deviation 1."""
        return (images - jnp.asarray(self.mean)) / jnp.asarray(self.std)
