"""Scores segmentations by every convention, with who uses it.

    python -m akorn_jax.score --pred=FILE_OR_DIR --true=FILE_OR_DIR

Both are an .npz of label maps, a folder of PNG label maps or a COCO JSON; they are paired by name.
Prints mean, standard error and how many images have no score; --json=FILE writes the same.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rich.box
import rich.table
from etils import epath

from akorn_jax import metrics
from akorn_jax.errors import UserError
from akorn_jax.runtime import progress, storage
from akorn_jax.score import conventions, label_maps

Array = np.ndarray


def main(arguments: Sequence[str]) -> dict[str, dict[str, float]]:
    """Reads, scores and prints; returns the scores.

    Raises:
        UserError: a file cannot be read, or predictions and truths do not pair.
    """
    parser = argparse.ArgumentParser(
        prog="python -m akorn_jax.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--pred", metavar="FILE_OR_DIR", required=True, type=Path)
    parser.add_argument("--true", metavar="FILE_OR_DIR", required=True, type=Path)
    parser.add_argument("--background", metavar="ID,ID", default="0", help="true ids, 0 by default")
    parser.add_argument("--ignore", metavar="ID,ID", default="", help="true ids that do not count")
    parser.add_argument("--boundary", action="store_true", help="also borders, which take longer")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args(arguments)
    background = _ids("background", options.background)
    ignore = _ids("ignore", options.ignore)
    true, pred = (label_maps.read(path.expanduser()) for path in (options.true, options.pred))
    check_pairs(true, pred, options)
    found = score(true, pred, background, ignore, boundary=options.boundary)
    progress.say(table(found, len(true)))
    if options.json:
        try:
            storage.write(epath.Path(options.json), json.dumps(found, indent=2).encode())
        except OSError as error:
            raise UserError(
                f"--json={options.json}: cannot be written ({error.strerror})."
            ) from error
    return found


def check_pairs(
    true: Mapping[str, Array], pred: Mapping[str, Array], options: argparse.Namespace
) -> None:
    """Raises UserError unless every truth has a prediction of its shape, and no other."""
    for names, what in (
        (sorted(true.keys() - pred.keys()), f"--pred={options.pred}: has no prediction of"),
        (sorted(pred.keys() - true.keys()), f"--true={options.true}: has no truth of"),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{what} {', '.join(names[:3])}{more}.")
    for name, labels in true.items():
        if labels.shape != pred[name].shape:
            raise UserError(
                f"{name}: the truth is {list(labels.shape)}, the prediction "
                f"{list(pred[name].shape)}; resize one."
            )


def score(
    true: Mapping[str, Array],
    pred: Mapping[str, Array],
    background_ids: Sequence[int] = (0,),
    ignore_ids: Sequence[int] = (),
    *,
    boundary: bool = False,
) -> dict[str, dict[str, float]]:
    """By convention: "mean", "se" (standard error), "count" and "without" (no score).

    Args:
        true, pred: label maps `[H, W]` by name; `[T, H, W]` of videos are scored as one image, so
            a segment must keep its id.
        background_ids: true ids that are no objects.
        ignore_ids: true ids of pixels that do not count.
        boundary: also `boundary_f`, of images alone.
    """
    values: dict[str, list[Array]] = {name: [] for name in conventions.CONVENTIONS}
    borders = []
    for name, labels in true.items():
        found = metrics.contingency(labels, pred[name], ignore_ids)
        for convention, rule in conventions.CONVENTIONS.items():
            values[convention].append(np.atleast_1d(rule.score(found, background_ids)))
        if boundary:
            borders.append(np.atleast_1d(conventions.boundary_f(labels, pred[name])))
    if boundary:
        values[conventions.BOUNDARY] = borders
    return {name: _summary(np.concatenate(v)) for name, v in values.items()}


def table(found: Mapping[str, Mapping[str, float]], num_images: int) -> rich.table.Table:
    """What is printed."""
    rows = rich.table.Table(title=f"{num_images} images", box=rich.box.SIMPLE, pad_edge=False)
    for heading in ("score", "mean ± s.e.", "without", "by whose rule"):
        rows.add_column(heading, no_wrap=heading != "by whose rule")
    for name, s in found.items():
        mean = "-" if s["mean"] is None else f"{s['mean']:.4f} ± {s['se'] or 0:.4f}"
        rule = conventions.CONVENTIONS.get(name)
        users = rule.users if rule else conventions.BOUNDARY_USERS
        rows.add_row(name, mean, str(s["without"]), users)
    return rows


def _summary(values: Array) -> dict[str, float | None]:
    kept = values[~np.isnan(values)]
    return {
        "mean": float(kept.mean()) if len(kept) else None,
        "se": float(kept.std(ddof=1) / len(kept) ** 0.5) if len(kept) > 1 else None,
        "count": len(kept),
        "without": int(len(values) - len(kept)),
    }


def _ids(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError as error:
        raise UserError(f"--{name}={text}: give integers, e.g. 0,255.") from error


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
