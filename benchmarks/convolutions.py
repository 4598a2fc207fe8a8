"""How fast a CPU convolves images, and differentiates that: by XLA, and as this library does.

    python -m benchmarks.convolutions --output=convolutions.json

Of each size: the convolution "with padding" and "without" by XLA, without as the library does
("ours"); the gradient of the kernel by XLA, by a product for each tap and by products of rows; the
gradient of the maps. All take turns, round after round. FLOP/s are those of the convolution's
products, beside those of a large product in the same rounds.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import NamedTuple

import jax

from akorn_jax.layers import tap_convolution
from benchmarks import command, machine, step

Array = jax.Array


class Size(NamedTuple):
    """N maps of S x S pixels with C channels, and a kernel of k x k pixels to as many channels."""

    maps: int
    pixels: int
    channels: int
    kernel: int


# Of decoders, encoders, a U-Net and glimpses at their published sizes.
SIZES = (
    Size(11, 136, 64, 3),
    Size(4, 128, 64, 5),
    Size(4, 128, 32, 5),
    Size(20, 132, 32, 3),
    Size(4, 64, 128, 3),
    Size(256, 32, 16, 3),
)


def main(arguments: list[str] | None = None) -> None:
    """Prints milliseconds and GFLOP/s of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="a JSON file")
    parser.add_argument("--tiny", action="store_true", help="the same at sizes that take no time")
    options = parser.parse_args(arguments)
    sizes = [Size(2, 8, 4, 3)] if options.tiny else SIZES
    results = [measure(size, options.rounds) for size in sizes]
    if options.output:
        machine.write(options.output, {"options": vars(options), "results": results})


def measure(size: Size, rounds: int) -> dict:
    """Median milliseconds of everything that is compared at a size; prints them."""
    N, S, C, k = size
    x = jax.random.normal(jax.random.key(0), (N, S, S, C))
    kernel = jax.random.normal(jax.random.key(1), (k, k, C, C)) / k
    programs = {name: compiled(f, x, kernel) for name, f in variants(k // 2).items()}
    programs["a product"] = machine.timed_product("float32")
    seconds = step.in_turn(programs, rounds)
    milliseconds = {name: 1e3 * statistics.median(found) for name, found in seconds.items()}
    gflop = 2 * N * S**2 * C**2 * k**2 / 1e9
    print(f"{k} x {k}, {N} maps of {S} x {S}, {C} channels: {gflop:.1f} GFLOP")
    for name, ms in milliseconds.items():
        work = machine.PRODUCT_FLOPS / 1e9 if name == "a product" else gflop
        print(f"  {name:<28} {ms:8.1f} ms {1e3 * work / ms:6.0f} GFLOP/s")
    return {"size": size._asdict(), "gflop": gflop, "milliseconds": milliseconds}


def compiled(f: Callable[[Array, Array], Array], x: Array, kernel: Array) -> Callable[[], Array]:
    """A call of f's program."""
    program = jax.jit(f).lower(x, kernel).compile()
    return lambda: jax.block_until_ready(program(x, kernel))


def variants(padding: int) -> dict[str, Callable[[Array, Array], Array]]:
    """Functions of maps and a kernel, by name."""

    def by_xla(x: Array, kernel: Array, padding: int = padding) -> Array:
        return tap_convolution.by_xla(x, kernel, 1, [(padding, padding)] * 2)

    def pull(convolve: Callable, argument: int) -> Callable[[Array, Array], Array]:
        """The gradient by an argument, from maps that stand for the result's gradient."""

        def gradient(x: Array, kernel: Array) -> Array:
            fixed = (x, kernel)

            def f(value: Array) -> Array:
                return convolve(*(value if i == argument else fixed[i] for i in range(2)))

            return jax.vjp(f, fixed[argument])[1](x)[0]

        return gradient

    def ours(x: Array, kernel: Array, padding: int = padding) -> Array:
        return tap_convolution.convolve(x, kernel, padding=padding)

    return {
        "with padding, XLA": by_xla,
        "without, XLA": lambda x, kernel: by_xla(x, kernel, 0),
        "without, ours": lambda x, kernel: ours(x, kernel, 0),
        "gradient of the kernel, XLA": pull(by_xla, 1),
        "by taps": lambda x, kernel: tap_convolution.kernel_gradient_by_taps(
            x, x, kernel, 1, padding
        ),
        "by rows": lambda x, kernel: tap_convolution.kernel_gradient_by_rows(
            x, x, len(kernel), padding
        ),
        "gradient of the maps, XLA": pull(by_xla, 0),
        "ours": pull(ours, 0),
    }


if __name__ == "__main__":
    command.run(main)
