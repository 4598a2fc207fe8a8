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
from absl import logging
from etils import epath

from akorn_jax.errors import UserError
from akorn_jax.evaluation.workers import Workers
from akorn_jax.runtime import extras, progress, storage
from akorn_jax.score import conventions, label_maps
from akorn_jax.score.pairs import Pair, score_pairs

Array = np.ndarray
Summary = dict[str, float | int | None]

CHUNK = 64  # pairs that a worker takes at a time
WORTH_PROCESSES = 1000  # pairs, about a second of scoring and the start of the workers


def main(arguments: Sequence[str]) -> dict[str, Summary]:
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
    parser.add_argument("--videos", action="store_true", help="the maps of a folder are its frames")
    parser.add_argument("--skip_bad", action="store_true", help="pass over bad and lone maps")
    parser.add_argument("--num_workers", metavar="N", type=int, help="processes; one a core")
    parser.add_argument("--json", metavar="FILE", type=Path)
    options = parser.parse_args(arguments)
    if options.num_workers is not None and options.num_workers < 0:
        raise UserError(f"--num_workers={options.num_workers}: give 0 or more.")
    background = _ids("background", options.background)
    ignore = _ids("ignore", options.ignore)
    true, pred = (label_maps.read(path.expanduser()) for path in (options.true, options.pred))
    if options.videos:
        true, pred = true.videos(), pred.videos()
    found = score(
        *check_pairs(true, pred, options),
        background,
        ignore,
        num_workers=options.num_workers,
        skip_bad=options.skip_bad,
    )
    progress.say(table(found))
    if options.json:
        try:
            storage.write(epath.Path(options.json), json.dumps(found, indent=2).encode())
        except OSError as error:
            raise UserError(
                f"--json={options.json}: cannot be written ({error.strerror})."
            ) from error
    return found


def check_pairs(
    true: label_maps.Maps, pred: label_maps.Maps, options: argparse.Namespace
) -> tuple[label_maps.Maps, label_maps.Maps]:
    """Truths and predictions of the names that both have.

    Raises:
        UserError: one has more, and these are not to be skipped; or none are left.
    """
    for names, what in (
        (sorted(true.keys() - pred.keys()), f"--pred={options.pred}: has no prediction of"),
        (sorted(pred.keys() - true.keys()), f"--true={options.true}: has no truth of"),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            line = f"{what} {', '.join(names[:3])}{more}"
            if not options.skip_bad:
                raise UserError(f"{line}; use --skip_bad to go on without.")
            logging.warning("skipped: %s", line)
    names = [name for name in true if name in pred]
    if not names:
        raise UserError(f"--pred={options.pred}: no name is among those of --true={options.true}.")
    return tuple(label_maps.Maps({n: maps.sources[n] for n in names}) for maps in (true, pred))


def score(
    true: Mapping[str, Array] | label_maps.Maps,
    pred: Mapping[str, Array] | label_maps.Maps,
    background_ids: Sequence[int] = (0,),
    ignore_ids: Sequence[int] = (),
    *,
    num_workers: int | None = 0,
    skip_bad: bool = False,
) -> dict[str, Summary]:
    """By convention: "mean", "se" (standard error), "count" and "without" (no score).

    Args:
        true, pred: label maps `[H, W]` by the same names, or videos `[T, H, W]`: frames are scored
            as images, and whole videos by the conventions of videos, where a segment must keep its
            id.
        background_ids: true ids that are no objects.
        ignore_ids: true ids of pixels that do not count.
        num_workers: processes; 0: this one; None: one a core where that pays.
        skip_bad: pass over pairs that cannot be read or differ in shape, with a warning.

    Raises:
        UserError: a pair is wrong, or all are.
    """
    pairs: list[Pair] = [(name, _source(true, name), _source(pred, name)) for name in true]
    if num_workers is None and len(pairs) < WORTH_PROCESSES:
        num_workers = 0
    starts = range(0, len(pairs), CHUNK)
    chunks = ((pairs[i : i + CHUNK], background_ids, ignore_ids, skip_bad) for i in starts)
    values: dict[str, list[Array]] = {}
    done = 0
    with Workers(num_workers) as workers, progress.bar(len(pairs), unit="pair") as bar:
        for chunk in workers.imap(score_pairs, chunks):
            for scores in chunk:
                if isinstance(scores, str):
                    logging.warning("skipped: %s", scores)
                    continue
                for name, found in scores.items():
                    values.setdefault(name, []).append(found)
            done += len(chunk)
            bar.update(done)
    if not values:
        raise UserError(f"none of the {len(pairs)} pairs can be scored; they are named above.")
    order = [*conventions.CONVENTIONS, conventions.BOUNDARY]
    return {n: _summary(np.concatenate(values[n])) for n in order if n in values}


def table(found: Mapping[str, Summary]) -> rich.table.Table:
    """What is printed."""
    num_images = found["ari"]["count"] + found["ari"]["without"]
    rows = rich.table.Table(title=f"{num_images} images", box=rich.box.SIMPLE, pad_edge=False)
    for heading in ("score", "mean ± s.e.", "without", "by whose rule"):
        rows.add_column(heading, no_wrap=heading != "by whose rule")
    for name, s in found.items():
        mean = "-" if s["mean"] is None else f"{s['mean']:.4f} ± {s['se'] or 0:.4f}"
        rule = conventions.CONVENTIONS.get(name)
        users = rule.users if rule else conventions.BOUNDARY_USERS
        rows.add_row(name, mean, str(s["without"]), users)
    return rows


def _source(maps: Mapping[str, Array], name: str) -> label_maps.Source:
    if isinstance(maps, label_maps.Maps):
        return maps.sources[name]
    return label_maps.Stored(np.asarray(maps[name]))


def _summary(values: Array) -> Summary:
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
    except ModuleNotFoundError as error:
        print(f"error: {extras.explain(error)}", file=sys.stderr)
        sys.exit(2)
