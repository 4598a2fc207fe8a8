"""What every model returns."""

import dataclasses

import jax

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ModelOutput:
    """The parts that a model has; absent parts are None.

    Tasks, evaluation and reports ask for parts by name and never for the model's name, so a model
    that fills a part gets everything that is built on it.

    Attributes:
        features: `[B, h, w, D]`, what is clustered into objects where there are no masks.
        embedding: `[B, D]`, one vector an image (contrastive learning).
        masks: `[B, K, H, W]` in [0, 1], sums to 1 over the K slots.
        recon: `[B, H, W, C]`, the reconstructed image, in [0, 1] or clipped for pictures only.
        slots: `[B, K, D]`, one vector an object.
        logits: `[B, ...]`, class scores or predicted properties.
        penalties: name -> `[B]`, extra terms of the objective.
        trajectory: what happened inside, step by step, when asked for (`trajectory=True`). Each
            part has an entry a layer:
            "oscillators" `[T, B, h, w, C]` and "energies" `[T + 1, B]` of Kuramoto layers, where
            row 0 of the energies is zeros and row s + 1 is the energy after s steps;
            "tokens" `[T, B, h, w, C]` of other layers that are applied T times;
            "attention" `[T, B, K, h, w]` of slots over the features, in [0, 1]: how each iteration
            of Slot Attention shares every place among the K slots, so it sums to 1 over them.
    """

    features: Array | None = None
    embedding: Array | None = None
    masks: Array | None = None
    recon: Array | None = None
    slots: Array | None = None
    logits: Array | None = None
    penalties: dict[str, Array] | None = None
    trajectory: dict[str, tuple[Array, ...]] | None = None
