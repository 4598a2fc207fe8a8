"""The true objects of scenes with their attributes, and what represents each in a model.

NumPy and SciPy only.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.metrics import contingency

# Where an angle is 0 and after which turn a shape looks the same nobody says; nor do others probe.
ANGLES = ("orientation", "rotation")
NOT_PROBED = ("visibility", *ANGLES)
CODES = ("shape",)  # classes even where no names come with them, as in the published Tetrominoes
MOST_COMPONENTS = 4  # of an attribute: a box


@dataclasses.dataclass(frozen=True)
class Objects:
    """The M visible objects of N scenes.

    Attributes:
        scene: `[M]`, ascending.
        entity: `[M]`, the object's label in its scene.
        attributes: of each object, by name: classes `[M]` integers, or numbers `[M, n]`.
    """

    scene: np.ndarray
    entity: np.ndarray
    attributes: dict[str, np.ndarray]


def visible_objects(examples: Examples, vocabularies: Mapping[str, Sequence[str]]) -> Objects:
    """The objects of which at least a pixel shows, with the attributes that can be probed.

    Attributes are those of `examples.attributes` with an entry for each entity; angles and what is
    the same of all objects of either half of the scenes are left out.

    Args:
        examples: N scenes with true segments.
        vocabularies: names of the codes of those attributes that are classes.

    Raises:
        UserError: nothing is known of the objects, or there are fewer than two in a half.
    """
    no_objects = (*examples.background_ids, *examples.ignore_ids)
    pairs = [
        (scene, entity)
        for scene, labels in enumerate(examples.segmentation)
        for entity in np.setdiff1d(labels, no_objects)
    ]
    scene, entity = np.array(pairs, np.int64).reshape(-1, 2).T
    train = scene < len(examples) / 2
    if min(train.sum(), np.sum(~train)) < 2:
        raise UserError(
            f"config.eval.evaluators=probes: {len(examples)} scenes show {len(scene)} objects, too "
            "few in a half to learn from; evaluate more scenes."
        )
    visibility = examples.attributes.get("visibility", np.zeros((len(examples), 0)))
    num_entities = visibility.shape[1]
    attributes = {}
    for name, values in sorted(examples.attributes.items()):
        of_entities = values.ndim in (2, 3) and values.shape[1] == num_entities > 0
        if name in NOT_PROBED or not of_entities or values[0, 0].size > MOST_COMPONENTS:
            continue
        found = values[scene, entity]
        is_code = name in vocabularies or name in CODES or values.dtype.kind in "iub"
        if is_code and found.ndim == 1:
            found = np.rint(found).astype(np.int64)
        else:
            found = found.reshape(len(found), -1).astype(np.float64)
        if all(np.ptp(found[half], axis=0).all() for half in (train, ~train)):
            attributes[name] = found
    if not attributes:
        raise UserError(
            "config.eval.evaluators=probes: the data say nothing of their objects that could be "
            "probed; choose others."
        )
    return Objects(scene, entity, attributes)


def kind(values: np.ndarray) -> str:
    """What an attribute is scored by: "accuracy" of classes, "r2" of numbers."""
    return "accuracy" if values.dtype.kind == "i" else "r2"


def segment_means(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Means of values `[N, h, w, D]` over each segment of `[N, h, w]`: `[N, K, D]`, NaN of none."""
    num = int(labels.max()) + 1
    means = []
    for some, each in zip(values, labels, strict=True):
        inside = each.ravel() == np.arange(num)[:, None]
        count = inside.sum(axis=1, keepdims=True)
        total = inside.astype(np.float32) @ some.reshape(each.size, -1).astype(np.float32)
        means.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.stack(means)


def pixel_statistics(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean color, center (y, x) and area of each segment, all in [0, 1]: `[N, K, 6]`, NaN of none.

    Args:
        images: `[N, H, W, 3]` uint8.
        labels: `[N, H, W]`.
    """
    height, width = labels.shape[1:]
    places = np.stack(np.mgrid[:height, :width], axis=-1) / np.maximum([height, width], 2)
    places = np.broadcast_to(places, (*labels.shape, 2))
    means = segment_means(np.concatenate([images / np.float32(255), places], axis=-1), labels)
    num = means.shape[1]
    areas = [np.bincount(each.ravel(), minlength=num) / each.size for each in labels]
    return np.concatenate([means, np.stack(areas)[..., None]], axis=-1)


def codes(
    labels: np.ndarray, vectors: np.ndarray, objects: Objects, examples: Examples
) -> np.ndarray:
    """The vector of each object's segment, `[M, D]`; NaN where none overlaps it."""
    found = np.full((len(objects.scene), vectors.shape[-1]), np.nan)
    for scene in np.unique(objects.scene):
        rows = np.flatnonzero(objects.scene == scene)
        usable = np.flatnonzero(~np.isnan(vectors[scene]).any(axis=-1))
        segments = match(
            examples.segmentation[scene], labels[scene], objects.entity[rows], usable,
            ignore_ids=examples.ignore_ids,
        )  # fmt: skip
        matched = segments >= 0
        found[rows[matched]] = vectors[scene, segments[matched]]
    return found


def match(
    true: np.ndarray,
    pred: np.ndarray,
    entities: np.ndarray,
    usable: np.ndarray,
    *,
    ignore_ids: Sequence[int] = (),
) -> np.ndarray:
    """The segment of each object, so that the sum of IoU is largest: `[M]`, -1 where none overlaps.

    Args:
        true, pred: label maps `[H, W]`.
        entities: `[M]` labels of the objects in `true`.
        usable: labels in `pred` that may be taken, each once.
        ignore_ids: labels in `true` of pixels that do not count.
    """
    table = contingency(true, pred, ignore_ids)
    rows = np.searchsorted(table.true_ids, entities)
    columns = np.flatnonzero(np.isin(table.pred_ids, usable))
    iou = (table.counts / table.unions())[np.ix_(rows, columns)]
    found = np.full(len(entities), -1)
    row, column = linear_sum_assignment(iou, maximize=True)
    taken = iou[row, column] > 0
    found[row[taken]] = table.pred_ids[columns[column[taken]]]
    return found
