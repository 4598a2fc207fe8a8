"""Residual networks of basic blocks (arXiv 1512.03385), for photographs and for small images."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.batch_norm import BatchNorm

Array = jax.Array

# torchvision's initialisation, and that of the common CIFAR networks.
KAIMING_FAN_OUT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
KAIMING_FAN_IN = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")


class ResNet(nnx.Module):
    """Images to one vector: a residual network, and the means over a few regions of its map.

    Args:
        kind: "resnet18": a 7x7 convolution of stride 2, a max pool, two blocks per stage, and
            shortcuts with 1x1 convolutions (torchvision's). "resnet32": a 3x3 convolution, five
            blocks per stage, and shortcuts without parameters (section 4.2 of the paper).
        channels: per stage; the first is also the stem's. All stages but the first halve the map.
        pool_size: (h, w), regions of the last map that are averaged.
        small_images: "resnet18" with the stem of "resnet32": a 3x3 convolution, no max pool.
    """

    def __init__(
        self,
        kind: str,
        channels: Sequence[int],
        pool_size: Sequence[int],
        *,
        small_images: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        if kind not in ("resnet18", "resnet32"):
            raise ValueError(f"encoder={kind!r} is unknown; it is 'resnet18' or 'resnet32'.")
        large = kind == "resnet18"
        init = KAIMING_FAN_OUT if large else KAIMING_FAN_IN
        num_blocks = 2 if large else 5
        self.max_pool = large and not small_images
        size, stride = (7, 2) if self.max_pool else (3, 1)
        self.pool_size = tuple(pool_size)
        self.out_features = channels[-1] * self.pool_size[0] * self.pool_size[1]
        self.stem = convolution(3, channels[0], size, stride, init, rngs=rngs)
        self.stem_norm = BatchNorm(channels[0])
        block = functools.partial(BasicBlock, project=large, init=init, rngs=rngs)
        self.stages = nnx.List()
        before = channels[0]
        for i, width in enumerate(channels):
            first = block(before, width, stride=1 if i == 0 else 2)
            self.stages.append(
                nnx.List([first, *(block(width, width, stride=1) for _ in range(num_blocks - 1))])
            )
            before = width

    def __call__(self, images: Array, *, train: bool) -> Array:
        """Images `[B, H, W, 3]` to `[B, channels[-1] h w]`, channel by channel as PyTorch has it.

        With `train` the norms use the statistics of the batch and record them.
        """
        x = nnx.relu(self.stem_norm(self.stem(images), train=train))
        if self.max_pool:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in self.stages:
            for block in stage:
                x = block(x, train=train)
        regions = adaptive_average_pool(x, self.pool_size)
        return regions.transpose(0, 3, 1, 2).reshape(len(images), -1)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut around them.

    Args:
        stride: of the first convolution and the shortcut.
        project: where the shapes differ, the shortcut is a 1x1 convolution with batch norm;
            otherwise it drops pixels and adds channels of zeros.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        stride: int,
        project: bool,
        init: nnx.Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        self.stride = stride
        self.conv1 = convolution(in_features, out_features, 3, stride, init, rngs=rngs)
        self.norm1 = BatchNorm(out_features)
        self.conv2 = convolution(out_features, out_features, 3, 1, init, rngs=rngs)
        self.norm2 = BatchNorm(out_features)
        if project and (stride != 1 or in_features != out_features):
            self.shortcut = convolution(in_features, out_features, 1, stride, init, rngs=rngs)
            self.shortcut_norm = BatchNorm(out_features)
        else:
            self.shortcut, self.shortcut_norm = None, None

    def __call__(self, x: Array, *, train: bool) -> Array:
        """`[B, H, W, C]` to `[B, H / stride, W / stride, C']`."""
        y = nnx.relu(self.norm1(self.conv1(x), train=train))
        y = self.norm2(self.conv2(y), train=train)
        if self.shortcut is not None:
            x = self.shortcut_norm(self.shortcut(x), train=train)
        elif x.shape != y.shape:
            more = y.shape[-1] - x.shape[-1]
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
        return nnx.relu(x + y)


def convolution(
    in_features: int,
    out_features: int,
    kernel_size: int,
    stride: int,
    init: nnx.Initializer,
    *,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """A convolution without bias, padded by half its kernel on all sides."""
    half = kernel_size // 2
    return nnx.Conv(
        in_features,
        out_features,
        (kernel_size, kernel_size),
        strides=stride,
        padding=((half, half), (half, half)),
        use_bias=False,
        kernel_init=init,
        rngs=rngs,
    )


def adaptive_average_pool(x: Array, size: tuple[int, int]) -> Array:
    """`[B, H, W, C]` to `[B, h, w, C]`: means over regions, which overlap where h or w does not
    divide H or W, as PyTorch's `AdaptiveAvgPool2d` has them."""
    rows, columns = (_regions(n, m) for n, m in zip(x.shape[1:3], size, strict=True))
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x)


def _regions(pixels: int, regions: int) -> np.ndarray:
    """The weight of each pixel in each region's mean, `[regions, pixels]`."""
    weights = np.zeros((regions, pixels), np.float32)
    for i in range(regions):
        start, stop = i * pixels // regions, -(-(i + 1) * pixels // regions)
        weights[i, start:stop] = 1 / (stop - start)
    return weights
