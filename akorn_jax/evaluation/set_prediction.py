"""How well predicted sets of objects agree with the true ones."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.metrics import average_precision

# Names and distances, in units of the scene, which is 6 wide.
THRESHOLDS = {"ap_inf": np.inf, "ap_1": 1.0, "ap_0.5": 0.5, "ap_0.25": 0.25, "ap_0.125": 0.125}


def predict(
    model: nnx.Module,
    images: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    num_slots: int | None = None,
    num_iterations: int | None = None,
) -> np.ndarray:
    """The model's predictions `[N, K, P]` for images `[N, H, W, 3]` uint8.

    Args:
        model: fills `ModelOutput.logits`.
        images: any number; the last batch is filled up, and cut off again.
        batch_size: images at a time.
        seed: of the initial slots.
        num_slots, num_iterations: K and T; None: as the model was made.
    """
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state, images: jax.Array, key: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, state)
        images = images.astype(jnp.float32) / 255
        return model(images, key=key, num_slots=num_slots, num_iterations=num_iterations).logits

    predictions = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        filled = np.concatenate([batch, np.zeros_like(batch, shape=_missing(batch, batch_size))])
        key = jax.random.fold_in(jax.random.key(seed), start)
        predictions.append(np.asarray(forward(state, filled, key))[: len(batch)])
    return np.concatenate(predictions)


def _missing(batch: np.ndarray, batch_size: int) -> tuple[int, ...]:
    return (batch_size - len(batch), *batch.shape[1:])


def scores(
    model: nnx.Module, images: np.ndarray, targets: np.ndarray, *, batch_size: int, seed: int
) -> dict[str, float]:
    """Average precision in [0, 1] over all images together, by the names of `THRESHOLDS`.

    Args:
        model, images, batch_size, seed: see `predict`.
        targets: `[N, M, 19]` of `properties.encode`.
    """
    pred = predict(model, images, batch_size=batch_size, seed=seed)
    return {
        name: float(average_precision(pred, targets, threshold))
        for name, threshold in THRESHOLDS.items()
    }
