"""What computing in bfloat16 costs in quality: the same short runs in both types, seed by seed.

    python -m benchmarks.bf16 --config=configs/tetrominoes_akorn.py --seeds=3 --output=bf16.json \
        --config.num_steps=1000

Every run is `launch.py` in a process of its own, under `runs/bf16`; one that was interrupted
resumes. Reported are the scores and the last training loss of each run, their mean and standard
error by
kind, and the differences of each seed's pair, which is what a seed's luck does not hide. How much
of such a difference is rounding alone says the control: float32 again, by a program that rounds in
another order (`model.unroll`). Measured: docs/results.md.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from akorn_jax.report import run as runs

KINDS = {
    "float32": ["--config.dtype=float32"],
    "control": ["--config.dtype=float32", "--config.model.unroll=true"],
    "bfloat16": ["--config.dtype=bfloat16"],
}
PAIRS = (("control", "float32"), ("bfloat16", "float32"), ("bfloat16", "control"))
SCORES = ("fg_ari", "ari", "mbo", "loss")


def main() -> None:
    """Runs what is missing, and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="configs/tetrominoes_akorn.py", help="a recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workdir", default="runs/bf16")
    parser.add_argument("--output", help="a JSON file")
    options, overrides = parser.parse_known_args()
    scores = {kind: [] for kind in KINDS}
    for seed in range(options.seeds):
        for kind, flags in KINDS.items():
            workdir = Path(options.workdir) / f"{kind}-{seed}"
            scores[kind].append(run(options.config, workdir, seed, flags + overrides))
    result = {"config": options.config, "overrides": overrides, "runs": scores}
    for name in SCORES:
        values = {kind: np.array([s[name] for s in scores[kind]]) for kind in KINDS}
        for kind, other in PAIRS:
            values[f"{kind} - {other}"] = values[kind] - values[other]
        result[name] = {kind: mean_and_error(v) for kind, v in values.items()}
    print(json.dumps(result, indent=2))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=2) + "\n")


def run(recipe: str, workdir: Path, seed: int, overrides: list[str]) -> dict:
    """The scores of one run."""
    command = [
        *(sys.executable, "launch.py", f"--config={recipe}", f"--workdir={workdir}"),
        *(f"--config.seed={seed}", "--config.eval.baselines=false"),
        *overrides,
    ]
    subprocess.run(command, check=True)
    finished = runs.read(workdir)
    _, losses = finished.curves["train/loss"]
    summary = finished.summary | {"loss": float(losses[-1])}
    return {"seed": seed, **{name: summary[name] for name in SCORES}}


def mean_and_error(values: np.ndarray) -> dict[str, float]:
    """Mean and, of several values, its standard error."""
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "se": error}


if __name__ == "__main__":
    main()
