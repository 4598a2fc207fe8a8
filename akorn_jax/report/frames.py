"""Scenes step by step, as panels and animations show them."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Frames:
    """A few scenes, step by step: F frames, those of all layers one after another.

    Attributes:
        indices: the scenes' places in the evaluated split.
        names: of the frames, e.g. "layer 1, step 0".
        phases: the tokens' colours `[F, B, h, w, 3]` uint8.
        clusters: the tokens' clusters `[F, B, H, W]`, named after the true segments they match.
        energies: `[F, B]`; None for models without energies.
    """

    indices: list[int]
    names: list[str]
    phases: np.ndarray
    clusters: np.ndarray
    energies: np.ndarray | None

    def __len__(self) -> int:
        return len(self.names)
