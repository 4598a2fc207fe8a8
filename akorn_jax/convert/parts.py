"""Entries of the layers that several official state dicts have in common."""

from collections.abc import Iterable

import numpy as np

from akorn_jax.convert.layout import (
    Entry,
    Part,
    affine,
    constant,
    convolution,
    identity,
    linear,
    norm,
)
from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.lstm import LSTM
from akorn_jax.layers.resnet import BasicBlock
from akorn_jax.layers.subpixel import ConvBlock


def batch_norm(name: str, module: BatchNorm, *, counter: bool = False) -> list[Entry]:
    """A batch norm with its running statistics.

    Args:
        counter: with `num_batches_tracked`, which says nothing about the weights: it is saved as 0
            and loaded whatever it is.
    """
    count = constant(f"{name}.num_batches_tracked", np.zeros((), np.int64), fixed=False)
    return [
        *norm(name, module),
        Entry(f"{name}.running_mean", module.mean, identity()),
        Entry(f"{name}.running_var", module.variance, identity()),
        *([count] if counter else []),
    ]


def basic_block(name: str, block: BasicBlock, *, counter: bool) -> list[Entry]:
    """A residual block by torchvision's names; for `counter` see `batch_norm`."""
    found = [
        Entry(f"{name}.conv1.weight", block.conv1.kernel, convolution()),
        *batch_norm(f"{name}.bn1", block.norm1, counter=counter),
        Entry(f"{name}.conv2.weight", block.conv2.kernel, convolution()),
        *batch_norm(f"{name}.bn2", block.norm2, counter=counter),
    ]
    if block.shortcut is not None:
        found.append(Entry(f"{name}.downsample.0.weight", block.shortcut.kernel, convolution()))
        found += batch_norm(f"{name}.downsample.1", block.shortcut_norm, counter=counter)
    return found


def lstm(name: str, module: LSTM) -> list[Entry]:
    """An LSTM cell."""
    return [
        Entry(f"{name}.weight_ih", module.input_kernel, linear()),
        Entry(f"{name}.weight_hh", module.state_kernel, linear()),
        Entry(f"{name}.bias_ih", Part(module.bias, 0), identity()),
        Entry(f"{name}.bias_hh", Part(module.bias, 1), identity()),
    ]


def blocks(name: str, modules: Iterable[ConvBlock]) -> list[Entry]:
    """Convolution, pixel shuffle where there is one, activation, norm, numbered in this order."""
    found, index = [], 0
    for module in modules:
        found += affine(f"{name}.{index}", module.conv, convolution())
        index += 3 if module.upscale > 1 else 2
        if module.norm is not None:
            found += norm(f"{name}.{index}", module.norm)
        index += 1
    return found
