"""Counter-based random numbers: draw k of scene i depends on (seed, i, k) and on nothing else.

So a scene is the same whichever batch, process or machine draws it. The hash is SplitMix64's
finaliser (Steele, Lea, Flood 2014) applied to each coordinate in turn.
"""

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def bits(seed: int, *counters: np.ndarray | int) -> np.ndarray:
    """uint64 of the broadcast shape of `counters` (integers >= 0), at least 1-D."""
    with np.errstate(over="ignore"):
        state = _mix(np.atleast_1d(np.uint64(seed % 2**64)) + _GOLDEN)
        for counter in counters:
            state = _mix((state ^ np.asarray(counter).astype(np.uint64)) + _GOLDEN)
    return state


def uniform(seed: int, *counters: np.ndarray | int) -> np.ndarray:
    """float64 in [0, 1)."""
    return (bits(seed, *counters) >> np.uint64(11)) * 2.0**-53


def integers(high: np.ndarray | int, seed: int, *counters: np.ndarray | int) -> np.ndarray:
    """int64 in [0, high); `high` broadcasts against the counters."""
    return (uniform(seed, *counters) * high).astype(np.int64)
