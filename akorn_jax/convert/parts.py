"""Entries of the layers that several official state dicts have in common."""

from collections.abc import Iterable

from akorn_jax.convert.layout import Entry, Part, affine, convolution, identity, linear, norm
from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.lstm import LSTM
from akorn_jax.layers.subpixel import ConvBlock


def batch_norm(name: str, module: BatchNorm) -> list[Entry]:
    """A batch norm with its running statistics; `num_batches_tracked` is left out."""
    return [
        *norm(name, module),
        Entry(f"{name}.running_mean", module.mean, identity()),
        Entry(f"{name}.running_var", module.variance, identity()),
    ]


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
