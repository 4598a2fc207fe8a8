"""What torchvision's views, which round to 8 bits after each operation, change in a training.

    python -m benchmarks.views --seeds=3 --steps=600 --batch_size=32 --data_dir=DIR --output=FILE

The demo's AKOrN is trained from the same weights, over the same scenes in the same order: on this
repository's views (`akorn_jax/data/augment.py`, floats on the device), on views that torchvision
makes of PIL images in the order of the official code, on those that it makes of floats, and, as a
control, on this repository's views with other random numbers, which by themselves move the loss of
a seed by several hundredths. Reported is the loss by hundreds of steps, and the difference to the
first kind, seed by seed. It needs torchvision.
"""

import argparse
import contextlib
from collections.abc import Callable
from unittest import mock

import jax
import numpy as np
import torch
from ml_collections import ConfigDict
from PIL import Image
from torchvision import transforms

from akorn_jax import optimizer, run_config, train
from akorn_jax.data import augment, records
from akorn_jax.runtime import sharding
from akorn_jax.training import train_state
from benchmarks import command, machine

WINDOW = 100  # steps that a figure is a mean over


def main() -> None:
    """Trains what is asked for and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--kinds", nargs="+", choices=VIEWS, default=list(VIEWS))
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--output", help="a JSON file")
    options = parser.parse_args()
    config = run_config.from_recipe("configs/demo.py")
    config.batch_size, config.num_steps = options.batch_size, options.steps
    scenes = records.load(config.data, "train", options.data_dir).images
    results = {kind: [] for kind in options.kinds}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        config.seed = seed
        for kind, rows in results.items():
            make = VIEWS[kind]
            # The batches hold the views already, but for ours.
            given = mock.patch.object(augment, "views", lambda _, key, images, num_views: images)
            with given if make else contextlib.nullcontext():
                rows.append(losses(config, scenes, make))
            print(f"{kind:12} seed {seed}:", *(f"{value:.3f}" for value in rows[-1]), flush=True)
    first, *others = results
    for kind in others:
        differences = np.array(results[kind]) - np.array(results[first])  # [seeds, windows]
        print(f"{kind} - {first}:", *(f"{value:+.3f}" for value in differences.mean(0)))
        if len(differences) > 1:
            spread = differences.std(0, ddof=1) / len(differences) ** 0.5
            print("standard error:", *(f"{value:.3f}" for value in spread))
    if options.output:
        machine.write(options.output, {"losses": results})


def losses(
    config: ConfigDict,
    scenes: np.ndarray,
    views: Callable[[ConfigDict, np.ndarray], np.ndarray] | None = None,
) -> list[float]:
    """Mean training loss of each `WINDOW` steps.

    Args:
        config: of a run.
        scenes: `[N, H, W, 3]`, uint8.
        views: makes the views of a batch; without, the task does.
    """
    torch.manual_seed(config.seed)
    model = train_state.build_model(config.model, config.seed)
    task = train_state.build("tasks", config.task)
    tx, _ = optimizer.make(config.optimizer, config.num_steps)
    mesh = sharding.make_mesh(config.mesh)
    state = train_state.create(model, tx, task.init_state())
    placement = sharding.state_sharding(jax.eval_shape(lambda: state), mesh)
    update = train.make_update(model, task, tx, config, placement)
    order = records.EpochSampler(len(scenes), config.batch_size, config.seed)
    result = []
    for step in range(0, config.num_steps, config.steps_per_call):
        rows = np.stack([order[step + k] for k in range(config.steps_per_call)])
        images = scenes[rows]  # [K, B, H, W, 3]
        if views is not None:
            images = np.stack([views(config.task.augmentation, batch) for batch in images])
        state, metrics = update(state, {}, {"image": images})
        result.append(np.asarray(metrics["loss"]).reshape(-1))
    result = np.concatenate(result)
    return result[: len(result) // WINDOW * WINDOW].reshape(-1, WINDOW).mean(1).tolist()


def torchvision_views(fields: ConfigDict, images: np.ndarray) -> np.ndarray:
    """Two views of each image, `[B, 2, size, size, 3]` in [0, 1], by way of 8 bits."""
    view = _transforms(fields)
    pictures = [Image.fromarray(image) for image in images]
    found = [[np.asarray(view(picture)) for _ in range(2)] for picture in pictures]
    return np.asarray(found, np.float32) / 255


def float_views(fields: ConfigDict, images: np.ndarray) -> np.ndarray:
    """The same operations on tensors of floats, which are never rounded."""
    view = _transforms(fields)
    tensors = torch.tensor(images).permute(0, 3, 1, 2) / 255  # [B, 3, H, W]
    found = torch.stack([torch.stack([view(tensor) for _ in range(2)]) for tensor in tensors])
    return found.permute(0, 1, 3, 4, 2).numpy()


def control_views(fields: ConfigDict, images: np.ndarray) -> np.ndarray:
    """Our views, of random numbers that are not those of the training."""
    key = jax.random.key(int(torch.randint(2**31, ())))
    return np.asarray(_our_views(augment.make(fields), key, images, num_views=2))


_our_views = jax.jit(augment.views, static_argnums=0, static_argnames="num_views")


def _transforms(fields: ConfigDict) -> transforms.Compose:
    make = augment.make(fields)
    jitter = transforms.ColorJitter(make.brightness, make.contrast, make.saturation, make.hue)
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(make.size, tuple(make.scale), tuple(make.ratio)),
            transforms.RandomApply([jitter], make.jitter),
            transforms.RandomGrayscale(make.grayscale),
        ]
    )


VIEWS = {
    "ours": None,
    "control": control_views,
    "torchvision": torchvision_views,
    "floats": float_views,
}


if __name__ == "__main__":
    command.run(main)
