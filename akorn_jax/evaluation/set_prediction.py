"""How well predicted sets of objects agree with the true ones."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.data import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import discovery, settings
from akorn_jax.evaluation.result import Result, summarize
from akorn_jax.metrics import average_precision

# Names and distances, in units of the scene, which is 6 wide.
THRESHOLDS = {"ap_inf": np.inf, "ap_1": 1.0, "ap_0.5": 0.5, "ap_0.25": 0.25, "ap_0.125": 0.125}
HEADINGS = {
    "ap_inf": "AP any",
    **{name: f"AP {distance:g}" for name, distance in THRESHOLDS.items() if distance < np.inf},
}


def evaluate(
    models: Mapping[str, nnx.Module], examples: Examples, targets: np.ndarray, config: ConfigDict
) -> Result:
    """Average precision of `models["trained"]`, beside that of the other models.

    Where the dataset has masks, what each slot attends to is scored as a segmentation too.

    Args:
        models: by name; they fill `ModelOutput.logits`.
        examples: N scenes.
        targets: `[N, M, 19]` of `properties.encode`.
        config: `eval` of it.

    Raises:
        UserError: the settings do not fit the model.
    """
    if config.eval.up_tiling != 1:
        raise UserError(
            f"config.eval.up_tiling={config.eval.up_tiling}: sets are predicted from whole images; "
            "use 1."
        )
    methods, segments = {}, {}
    for name, model in models.items():
        pred = predict(
            model,
            examples.images,
            batch_size=config.eval.batch_size,
            seed=config.eval.seed,
            arguments=settings.call_arguments(model, config.eval),
        )
        methods[name] = scores(pred, targets)
        if examples.labels is not None:
            labels = discovery.segment(model, examples, config).labels
            segments[name] = labels, discovery.compare(examples, labels)
            methods[name] |= summarize(segments[name][1])
    labels, per_image = segments.get("trained", (None, {}))
    others = {name: found for name, found in methods.items() if name != "trained"}
    return Result(
        summary={**methods["trained"], "baselines": others},
        columns=HEADINGS | ({"fg_ari": "attn FG-ARI"} if segments else {}),
        methods=methods,
        per_image=per_image,
        labels=labels,
    )


def predict(
    model: nnx.Module,
    images: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    arguments: Mapping[str, int] | None = None,
) -> np.ndarray:
    """The model's predictions `[N, K, P]` for images `[N, H, W, 3]` uint8.

    Args:
        model: fills `ModelOutput.logits`.
        images: any number; the last batch is filled up, and cut off again.
        batch_size: images at a time.
        seed: of the initial slots.
        arguments: of the model's call, e.g. `{"num_slots": 11}`.
    """
    graphdef, state = nnx.split(model)
    arguments = tuple(sorted((arguments or {}).items()))
    predictions = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        filled = np.concatenate([batch, np.zeros_like(batch, shape=_missing(batch, batch_size))])
        key = jax.random.fold_in(jax.random.key(seed), start)
        predictions.append(
            np.asarray(_logits(graphdef, state, filled, key, arguments))[: len(batch)]
        )
    return np.concatenate(predictions)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _logits(
    graphdef: nnx.GraphDef,
    state: nnx.State,
    images: jax.Array,
    key: jax.Array,
    arguments: tuple[tuple[str, int], ...],
) -> jax.Array:
    """A batch of `predict`; compiled once for a model's structure and settings."""
    model = nnx.merge(graphdef, state)
    return model(images.astype(jnp.float32) / 255, key=key, **dict(arguments)).logits


def _missing(batch: np.ndarray, batch_size: int) -> tuple[int, ...]:
    return (batch_size - len(batch), *batch.shape[1:])


def scores(pred: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Average precision in [0, 1] over all images together, by the names of `THRESHOLDS`.

    Args:
        pred: `[N, K, 19]`.
        targets: `[N, M, 19]` of `properties.encode`.
    """
    return {
        name: float(average_precision(pred, targets, threshold))
        for name, threshold in THRESHOLDS.items()
    }
