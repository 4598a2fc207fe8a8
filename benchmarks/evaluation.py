"""Time to segment and score images: this library against the published evaluation's steps.

    python -m benchmarks.evaluation --images=8 --rounds=7 --output=evaluation.json

The baseline does for one image after another what AKOrN's released evaluation does: unit vectors,
principal components, average linkage (SciPy's, as fast as the fastcluster it uses), nearest
up-sampling, scikit-learn's Rand index on the foreground, a loop over masks for the best overlap.
Ours gives the same label maps from worker processes and scores them four ways instead of two. Both
run in turn, round after round, in one process, so that other load on the machine hits both.

The default is ClevrTex with up-tiling 4: 4,096 points an image, 256 channels reduced to 128, 11
clusters, 128x128 pixels. Features are drawn, not computed, except with `--forward`, which runs the
paper's network on synthetic images in both (16 passes an image; minutes on a CPU).
"""

import argparse
import os
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from akorn_jax.evaluation import clustering
from akorn_jax.evaluation.workers import Workers
from akorn_jax.metrics import ari, segmentation_scores
from benchmarks import command, machine

PIXELS = 128
PATCH = 8
FACTOR = 4
GRID = PIXELS // PATCH * FACTOR


def draw(rng: np.random.Generator, channels: int, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Features `[64, 64, channels]` of discs on a background, with noise, and the true labels."""
    y, x = np.mgrid[:PIXELS, :PIXELS]
    true = np.zeros((PIXELS, PIXELS), np.int32)
    for label in range(1, rng.integers(4, clusters)):
        (row, column), radius = rng.integers(0, PIXELS, 2), rng.integers(8, 24)
        true[(y - row) ** 2 + (x - column) ** 2 < radius**2] = label
    centres = rng.normal(size=(clusters, channels))
    step = PIXELS // GRID
    features = centres[true[::step, ::step]] + 1.5 * rng.normal(size=(GRID, GRID, channels))
    return features.astype(np.float32), true


def one_after_another(
    features: Iterable[np.ndarray], true: np.ndarray, clusters: int
) -> tuple[list[np.ndarray], list[float], list[float]]:
    """The published steps: label maps, FG-ARI and best overlap of each image."""
    maps, rand, overlap = [], [], []
    for image, labels in zip(features, true, strict=True):
        points = image.reshape(-1, image.shape[-1])
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
        if points.shape[1] > clustering.MAX_DIMS:
            centred = points - points.mean(0)
            _, axes = np.linalg.eigh(centred.T @ centred / (len(points) - 1))
            points = centred @ axes[:, ::-1][:, : clustering.MAX_DIMS]
        tree = linkage(points.astype(np.float64), "average", "euclidean")
        pred = fcluster(tree, clusters, "maxclust").reshape(image.shape[:2])
        index = np.arange(PIXELS) * GRID // PIXELS
        pred = pred[index[:, None], index]
        foreground = labels > 0
        rand.append(adjusted_rand_score(labels[foreground], pred[foreground]))
        best = [
            max(
                np.sum((labels == k) & (pred == c)) / (np.sum((labels == k) | (pred == c)) + 1e-9)
                for c in np.unique(pred)
            )
            for k in np.unique(labels[foreground])
        ]
        overlap.append(float(np.mean(best)))
        maps.append(pred)
    return maps, rand, overlap


def overlapped(
    features: Iterable[np.ndarray], true: np.ndarray, clusters: int, workers: Workers
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ours: label maps and scores."""
    units = (clustering.unit_vectors(image) for image in features)
    maps = clustering.iterate_cluster_maps(units, clusters, workers)
    pred = np.stack([clustering.upsample_nearest(m, (PIXELS, PIXELS)) for m in maps])
    return pred, segmentation_scores(true, pred)


def network(channels: int, images: int, batch_size: int) -> Callable[[], Iterator[np.ndarray]]:
    """The features of synthetic images by the paper's network for ClevrTex, up-tiled."""
    import jax
    from flax import nnx

    from akorn_jax.evaluation import up_tiling
    from akorn_jax.models import akorn

    model = akorn.Model(
        channels=channels,
        num_layers=1,
        num_steps=8,
        patch_size=PATCH,
        image_size=PIXELS,
        oscillator_dim=4,
        heads=8,
        connectivity="attn",
        stimulus_norm="gn",
        gta=True,
        rngs=nnx.Rngs(0),
    )
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state: nnx.State, batch: jax.Array, key: jax.Array) -> jax.Array:
        tiles = up_tiling.tiles(batch, FACTOR, PATCH)
        model = nnx.merge(graphdef, state)
        keys = jax.random.split(key, len(tiles))
        features = jax.lax.map(lambda t: model(t[0], key=t[1]).features, (tiles, keys))
        return up_tiling.interleave(features)

    pixels = np.random.default_rng(0).random((images, PIXELS, PIXELS, 3), np.float32)

    def features() -> Iterator[np.ndarray]:
        for start in range(0, images, batch_size):
            batch = pixels[start : start + batch_size]
            yield from np.asarray(forward(state, batch, jax.random.key(start)))

    for _ in features():  # compiles
        break
    return features


def timed(function: Callable, *args: object) -> tuple[float, tuple]:
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def scoring_rate(true: np.ndarray, pred: np.ndarray, images: int = 1000) -> float:
    """Images a minute that `segmentation_scores` scores on one core."""
    repeats = images // len(true) + 1
    true, pred = np.tile(true, (repeats, 1, 1)), np.tile(pred, (repeats, 1, 1))
    seconds, _ = timed(segmentation_scores, true, pred)
    return 60 * len(true) / seconds


def measure(options: argparse.Namespace) -> dict:
    """Seconds an image of both, round by round, after a check that they give the same maps."""
    rng = np.random.default_rng(0)
    drawn = [draw(rng, options.channels, options.clusters) for _ in range(options.images)]
    true = np.stack([labels for _, labels in drawn])
    features = [image for image, _ in drawn]
    stream = (
        network(options.channels, options.images, batch_size=4)
        if options.forward
        else lambda: iter(features)
    )
    seconds = {"one after another": [], "ours": []}
    with Workers(options.workers) as workers:
        starting, _ = timed(
            overlapped, features[: workers.num_workers], true[: workers.num_workers], 2, workers
        )
        for _ in range(options.rounds):
            theirs, (maps, rand, overlap) = timed(
                one_after_another, stream(), true, options.clusters
            )
            ours, (pred, scores) = timed(overlapped, stream(), true, options.clusters, workers)
            seconds["one after another"].append(theirs / options.images)
            seconds["ours"].append(ours / options.images)
    same = int(np.sum(ari(np.stack(maps), pred) == 1))
    return {
        "seconds_per_image": seconds,
        "ratio": [a / b for a, b in zip(*seconds.values(), strict=True)],
        "start_of_workers_seconds": starting,
        "same_partitions": same,
        "scored_per_minute": scoring_rate(true, pred),
        "fg_ari": [float(np.mean(rand)), float(scores["fg_ari"].mean())],
        "mbo": [float(np.mean(overlap)), float(scores["mbo"].mean())],
        "options": vars(options),
    }


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--clusters", type=int, default=11)
    parser.add_argument("--workers", type=int, help="processes; one a core by default")
    parser.add_argument("--forward", action="store_true", help="include the network")
    parser.add_argument("--output", help="a JSON file")
    options = parser.parse_args(arguments)
    result = measure(options)
    print(f"{options.images} images, {GRID * GRID} points each; seconds an image")
    print(f"{'round':>5} {'one after another':>18} {'ours':>8} {'ratio':>6}")
    rows = zip(*result["seconds_per_image"].values(), result["ratio"], strict=True)
    for i, (theirs, ours, ratio) in enumerate(rows):
        print(f"{i:>5} {theirs:>18.3f} {ours:>8.3f} {ratio:>6.2f}")
    print(f"median ratio {np.median(result['ratio']):.2f}, load {os.getloadavg()[0]:.1f}")
    print(f"scoring alone: {result['scored_per_minute']:.0f} images a minute on one core")
    print(f"workers start in {result['start_of_workers_seconds']:.1f} s")
    print(f"same partition on {result['same_partitions']} of {options.images} images")
    print("FG-ARI {:.6f} {:.6f}, mBO {:.6f} {:.6f}".format(*result["fg_ari"], *result["mbo"]))
    if options.output:
        machine.write(options.output, result)


if __name__ == "__main__":
    command.run(main)
