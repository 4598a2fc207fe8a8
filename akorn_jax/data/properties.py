"""CLEVR objects as vectors, the targets of set prediction.

A vector has 19 numbers: shape (3), size (2), material (2) and color (8) as one-hot codes, the
position (3), and whether there is an object (1), which prediction takes for its confidence. Rows of
padding fill a scene up to the largest number of objects.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

# Codes 1, 2, ... of CLEVR with masks as published; 0 is no object.
VALUES = {
    "shape": ("sphere", "cylinder", "cube"),
    "size": ("large", "small"),
    "material": ("rubber", "metal"),
    "color": ("red", "cyan", "green", "blue", "brown", "gray", "purple", "yellow"),
}
FIELDS = (*VALUES, "x", "y", "z", "visibility")
NUM_PROPERTIES = sum(map(len, VALUES.values())) + 3 + 1

# The box that positions are divided by, (lowest, highest) corner. "scene" is Locatello et al.'s,
# where a distance of 1 is 1/6 in every direction; "tight" is Krimmel et al.'s, in which the height,
# a radius from 0.35 to 0.7, counts 17 times as much.
BOXES = {
    "scene": ((-3.0, -3.0, -3.0), (3.0, 3.0, 3.0)),
    "tight": ((-3.0, -3.0, 0.35), (3.0, 3.0, 0.7)),
}


def encode(attributes: Mapping[str, Array], box: str = "scene") -> Array:
    """Targets `[B, M, 19]` of M objects.

    Args:
        attributes: `[B, 1 + M]` by the names of `FIELDS`; the first entry is the background.
        box: a key of `BOXES`. Padding is zero; in "tight" its position is that of the point 0, as
            in the released code.

    Raises:
        ValueError: the box is unknown.
    """
    if box not in BOXES:
        raise ValueError(f"box={box!r} is unknown; it is one of {', '.join(BOXES)}.")
    present = (attributes["visibility"][:, 1:] > 0).astype(jnp.float32)[..., None]
    categories = [
        jax.nn.one_hot(attributes[name][:, 1:].astype(jnp.int32) - 1, len(values))
        for name, values in VALUES.items()
    ]
    position = jnp.stack([attributes[axis][:, 1:] for axis in "xyz"], axis=-1)
    low, high = (jnp.array(corner) for corner in BOXES[box])
    position = (position * present - low) / (high - low)
    if box == "scene":
        position = position * present
    return jnp.concatenate(
        [*(category * present for category in categories), position, present], axis=-1
    )


def translations(vocabularies: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """Tables from a dataset's codes to ours, where it numbers the words of `VALUES` differently.

    Args:
        vocabularies: by field, the word of each code, "none" among them.
    """
    tables = {}
    for name, values in VALUES.items():
        ours, theirs = ["none", *values], list(vocabularies.get(name, ()))
        if theirs != ours and sorted(theirs) == sorted(ours):
            tables[name] = np.array([ours.index(word) for word in theirs], np.uint8)
    return tables


# --- TFDS's own `clevr`, which numbers the values from 0 in an order of its own

_TFDS_VALUES = {
    "shape": ("cube", "sphere", "cylinder"),
    "size": ("small", "large"),
    "material": ("rubber", "metal"),
    "color": ("gray", "blue", "brown", "yellow", "red", "green", "purple", "cyan"),
}


def from_tfds(objects: Mapping[str, np.ndarray], max_objects: int = 10) -> dict[str, np.ndarray]:
    """The `objects` of one example of TFDS's `clevr` (3.1.0) as our `FIELDS`, `[1 + max_objects]`.

    Raises:
        ValueError: there are more objects than `max_objects`.
    """
    position = np.asarray(objects["3d_coords"], np.float32).reshape(-1, 3)
    count = len(position)
    if count > max_objects:
        raise ValueError(f"a scene has {count} objects, more than max_objects={max_objects}.")

    def padded(values: np.ndarray, dtype: type) -> np.ndarray:
        row = np.zeros(1 + max_objects, dtype)
        row[1 : 1 + count] = values
        return row

    fields = {}
    for name, values in VALUES.items():
        code = np.array([1 + values.index(value) for value in _TFDS_VALUES[name]])
        fields[name] = padded(code[np.asarray(objects[name], int)], np.uint8)
    for axis, values in zip("xyz", position.T, strict=True):
        fields[axis] = padded(values, np.float32)
    fields["visibility"] = padded(np.ones(count), np.float32)
    fields["visibility"][0] = 1  # the background, as in our data
    return fields
