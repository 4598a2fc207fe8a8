"""Where the time goes between a command and the first step of its training.

    python -m benchmarks.startup --config=configs/tetrominoes_akorn.py:procedural \
        --config.num_steps=1 --mode=train --workdir=/tmp/startup

The arguments are those of `launch.py`, with a new directory. Printed are the seconds of CPU and of
wall time of each part; on a machine that other work shares, only the former compare. Run it twice:
the second time finds the data prepared and the step in the cache of compiled programs.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

CLOCKS = (time.process_time, time.monotonic)
laps: list[tuple[str, float, float]] = []
last = [clock() for clock in CLOCKS]


def lap(part: str) -> None:
    """Ends a part."""
    now = [clock() for clock in CLOCKS]
    laps.append((part, *(n - before for n, before in zip(now, last, strict=True))))
    last[:] = now


def timed(owner: Any, name: str, part: str) -> None:
    """Makes a function of a module or class a part of its own."""
    function = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        lap("the rest")
        result = function(*args, **kwargs)
        lap(part)
        return result

    setattr(owner, name, wrapper)


def main(arguments: list[str]) -> int:
    """Runs launch.py and prints the table."""
    import jax

    lap("import jax")
    import launch
    from akorn_jax import train
    from akorn_jax.data import batches
    from akorn_jax.training import train_state

    lap("other imports")
    timed(launch, "prepare_data", "look for the data")
    timed(train_state, "build_model", "build the model")
    timed(batches, "make", "read the scenes")
    timed(train.Checkpoints, "restore_latest", "look for a checkpoint")
    make_update = train.make_update

    def make_timed_update(*args: Any) -> Callable[..., Any]:
        update = make_update(*args)

        def first(*args: Any) -> Any:
            lap("the rest")
            lowered = update.lower(*args)
            lap("trace the step")
            compiled = lowered.compile()
            lap("compile or load the step")
            result = jax.block_until_ready(compiled(*args))
            lap("make the step")
            return result

        return first

    train.make_update = make_timed_update
    code = launch.main(arguments)
    for part in dict.fromkeys(part for part, _, _ in laps):
        cpu, wall = (sum(lap[i] for lap in laps if lap[0] == part) for i in (1, 2))
        print(f"{part:26} {cpu:6.1f} s CPU {wall:6.1f} s")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
