"""ResNet-18 as a classifier (arXiv 1512.03385), with the stem that is usual for small images."""

import jax
from flax import nnx

from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.resnet import ResNet
from akorn_jax.outputs import ModelOutput

Array = jax.Array


class Model(nnx.Module):
    """A residual network and a linear map of its global mean.

    Args:
        channels: of the first of four stages; each further one has twice as many and halves the
            map.
        num_classes: logits.
        small_images: a 3x3 stem of stride 1 without max pool; otherwise torchvision's 7x7 of
            stride 2 with it.
    """

    def __init__(
        self,
        *,
        channels: int = 64,
        num_classes: int = 10,
        small_images: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        self.encoder = ResNet(
            "resnet18",
            tuple(channels * 2**i for i in range(4)),
            (1, 1),
            small_images=small_images,
            rngs=rngs,
        )
        self.classifier = linear(self.encoder.out_features, num_classes, rngs=rngs)

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
    ) -> ModelOutput:
        """Names the class of an image.

        Args:
            images: `[B, H, W, 3]` in [0, 1].
            key, trajectory: without meaning here; every model takes them.
            train: batch norms use the statistics of the batch and record them.

        Returns:
            `logits` `[B, num_classes]` and `embedding`, what they are a linear map of.
        """
        del key, trajectory
        embedding = self.encoder((images - 0.5) / 0.5, train=train)
        return ModelOutput(logits=self.classifier(embedding), embedding=embedding)
