"""Seeded damage of every kind to a file's bytes."""

from collections.abc import Iterator

import numpy as np


def mutants(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Copies with one to five faults each: bits flipped, bytes lost, put in, or repeated."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        mutant = bytearray(content)
        for _ in range(rng.integers(1, 6)):
            at, kind = int(rng.integers(len(mutant))), rng.integers(4)
            if kind == 0:
                mutant[at] ^= 1 << rng.integers(8)
            elif kind == 1:
                del mutant[at : at + int(rng.integers(1, 200))]
            elif kind == 2:
                mutant[at:at] = rng.integers(0, 256, rng.integers(1, 40), np.uint8).tobytes()
            else:
                mutant[at:at] = mutant[at : at + int(rng.integers(1, 400))]
            mutant = mutant or bytearray(b"0")
        yield bytes(mutant)
