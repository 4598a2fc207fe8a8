"""What every model returns."""

import dataclasses

import jax

Array = jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ModelOutput:
    """The parts that a model has; absent parts are None.

    Tasks, evaluators and report panels ask for parts by name and never for the model's name, so a
    model that fills a part gets everything that is built on it. Leading axes are `[B]`, or
    `[B, T]` for video. K is the same in all parts: slots, objects or cells.

    Attributes:
        terms: name -> `[B]`, the paper's terms of the objective, summed over pixels and latents as
            the paper sums them, unweighted: a task weighs them.
        recon: `[B, H, W, C]`, the reconstructed image, in [0, 1]; clipped for pictures only.
        masks: `[B, K, H, W]`, sum to 1 over K, at the size of the image or, of models that explain
            features, on their grid, to be enlarged bilinearly (`layers.resize.resize_masks`); the
            background is a mask like any other, the first.
            Where a model has foreground masks only, the first is 1 less their sum, which may be
            negative where objects overlap.
        attention: `[B, K, h, w]` of slots over features in the last iteration, sums to 1 over K.
        slots: `[B, K, D]`, one vector per object.
        dictionary: `[B, S, h, w, 4]`, RGBA in [0, 1] of learned sprites, the same for all images;
            `slots` are then how much each sprite is chosen, `[B, K, D]` with the first S of D.
        patches: `[B, K, H, W, C]`, what each mask shows, before masking.
        presence: `[B, K]` in [0, 1], whether there is an object; without the background where the
            model has none.
        boxes: `[B, K, 4]` as (y0, x0, y1, x1) in [0, 1] of the image; K as in `presence`.
        features: `[B, h, w, D]`, what is clustered into objects where there are no masks.
        embedding: `[B, D]`, one vector per image (contrastive learning).
        logits: `[B, ...]`, class scores or predicted properties.
        trajectory: intermediate states when asked for (`trajectory=True`). Each part is a tuple
            with one entry per layer:
            "oscillators" `[T, B, h, w, C]` and "energies" `[T + 1, B]` of Kuramoto layers, where
            row 0 of the energies is zeros and row s + 1 is the energy after s steps; "initial"
            `[B, h, w, C]`, the normalised oscillators before the first step, and "final_energy"
            `[B]`, the energy after the last;
            "tokens" `[T, B, h, w, C]` of other layers that are applied T times;
            "attention" `[T, B, K, h, w]` of slots over the features, in [0, 1], sums to 1 over K;
            "masks" `[T, B, K, H, W]` of models that refine their masks;
            "levels" `[T, B, h, w, L, D]` of part-whole hierarchies;
            "logits" `[S, B, ...]`, read out after each of the S steps `readout_steps(T)`;
            "interpolation" `[T, B, H, W, C]`, scenes on the way to another image's latent.
    """

    terms: dict[str, Array] | None = None
    recon: Array | None = None
    masks: Array | None = None
    attention: Array | None = None
    slots: Array | None = None
    dictionary: Array | None = None
    patches: Array | None = None
    presence: Array | None = None
    boxes: Array | None = None
    features: Array | None = None
    embedding: Array | None = None
    logits: Array | None = None
    trajectory: dict[str, tuple[Array, ...]] | None = None


def readout_steps(num_steps: int) -> list[int]:
    """After which of T steps a trajectory has logits: 1, 2, 4, ... and the last."""
    doubling = (2**i for i in range(num_steps.bit_length()))
    return [*(step for step in doubling if step < num_steps), num_steps]
