"""Scores one run of the arena, with what its page shows: `python -m benchmarks.arena.score DIR`.

Writes what `launch.py --mode=evaluate` does, without baselines, and into `DIR/arena.npz` the
untrained model's scores, the number of parameters, and of the first scenes the reconstructions.
"""

import io
import json
import sys

import jax
import numpy as np
from etils import epath

from akorn_jax import evaluate, run_config
from akorn_jax.errors import UserError
from akorn_jax.evaluation.predict import predict
from akorn_jax.evaluation.result import summarize
from akorn_jax.evaluation.segmentation import compare, label_maps, segments
from akorn_jax.outputs import ModelOutput
from akorn_jax.runtime import storage
from akorn_jax.training import train_state

EXTRAS = "arena.npz"
NUM_SCENES = 8


def main(workdir: epath.Path) -> None:
    """Scores the newest checkpoint of a run."""
    config = run_config.from_workdir(workdir)
    config.eval.baselines = False
    checkpoint = evaluate.restore(config, workdir)
    if checkpoint.step < config.num_steps:
        raise UserError(
            f"--workdir={workdir}: the newest checkpoint is of step {checkpoint.step} of "
            f"{config.num_steps}; train on."
        )
    summary = evaluate.evaluate_on(config, checkpoint, workdir, suffix="")
    examples = evaluate.load(config)
    settings = {"step": checkpoint.step, "task_state": checkpoint.task_state}
    fresh = evaluate.untrained(config, checkpoint.model)
    kept = predict(fresh, checkpoint.task, examples, config, reduce=segments, **settings)
    untrained = compare(examples, label_maps(kept, examples, config).labels)
    _, params, _ = train_state.split(checkpoint.model)
    extras = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "untrained": json.dumps(summarize(untrained)),
    }
    if "mse" in summary:
        pictures = predict(
            *(checkpoint.model, checkpoint.task, examples, config),
            reduce=reconstruction,
            indices=range(min(NUM_SCENES, len(examples))),
            **settings,
        )
        extras["recon"] = np.concatenate([batch["recon"] for batch in pictures])
    content = io.BytesIO()
    np.savez_compressed(content, **extras)
    storage.write(workdir / EXTRAS, content.getvalue())


def reconstruction(output: ModelOutput, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The reconstruction as a picture, uint8."""
    del batch
    pixels = jax.numpy.clip(output.recon, 0, 1) * 255
    return {"recon": jax.numpy.round(pixels).astype(jax.numpy.uint8)}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", False)
    try:
        main(epath.Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
