"""What a classical texture segmenter finds: energies of Gabor filters, clustered.

    python -m benchmarks.gabor --recipe=configs/demo.py:textured

Nothing here is learned, but everything is made for gratings: filters in eight directions at two
wavelengths that suit the textures, their energies smoothed and divided by their sum (Jain and
Farrokhnia 1991; Malik and Perona 1990). On textured sprites it is the bar that no baseline of
colour or place sets. Printed are the scores on a recipe's test scenes, of the clustering that the
other baselines use and of k-means.
"""

import argparse
import sys
from collections.abc import Callable

import numpy as np
from scipy import ndimage, signal
from sklearn.cluster import KMeans

from akorn_jax import run_config
from akorn_jax.data import records
from akorn_jax.errors import UserError
from akorn_jax.evaluation.clustering import average_linkage, upsample_nearest
from akorn_jax.evaluation.result import summarize
from akorn_jax.evaluation.segmentation import compare
from benchmarks import machine
from datasets.errors import DatasetError

Array = np.ndarray

DIRECTIONS = 8  # over half a turn
PERIODS = (4.0, 5.6)  # pixels: of stripes along an axis, and of the diagonals of checks
DEVIATION = 2.0  # of the filters' envelope, pixels
RADIUS = 6  # of the filters, pixels


def main(arguments: list[str] | None = None) -> int:
    """Prints FG-ARI and mBO of both clusterings; returns the exit code."""
    try:
        run(arguments)
    except (UserError, DatasetError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(arguments: list[str] | None = None) -> None:
    """What `main` prints.

    Raises:
        UserError: the patches do not divide the images, or there is no such recipe.
        DatasetError: the scenes are not prepared.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="configs/demo.py:textured")
    parser.add_argument("--patch_size", type=int, default=2, help="pixels; scenes are cut into it")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--output", help="a JSON file")
    options = parser.parse_args(arguments)
    config = run_config.from_recipe(options.recipe)
    examples = records.load(config.data, "test", options.data_dir)
    size = examples.images.shape[1:3]
    if options.patch_size < 1 or any(side % options.patch_size for side in size):
        raise UserError(
            f"--patch_size={options.patch_size}: must divide images of {size[0]} x {size[1]} "
            "pixels."
        )
    tokens = energies(examples.images, options.patch_size)
    results = {}
    for name, cluster in CLUSTERINGS.items():
        labels = [cluster(x.reshape(-1, x.shape[-1]), config.data.num_clusters) for x in tokens]
        maps = [
            upsample_nearest(label.reshape(x.shape[:2]), size)
            for label, x in zip(labels, tokens, strict=True)
        ]
        results[name] = summarize(compare(examples, np.stack(maps)))
        scores = (f"{key} {results[name][key]:.3f}" for key in ("fg_ari", "mbo"))
        print(f"{name}: {', '.join(scores)} on {len(examples)} scenes", flush=True)
    if options.output:
        machine.write(options.output, {"scores": results})


def energies(images: Array, patch_size: int) -> Array:
    """Mean energies of patches, `[B, H / patch_size, W / patch_size, F]`, whose sum over F is 1.

    Args:
        images: uint8 `[B, H, W, 3]`.
        patch_size: P, pixels.
    """
    gray = images.mean(-1)
    gray -= gray.mean((1, 2), keepdims=True)
    padded = np.pad(gray, ((0, 0), (RADIUS, RADIUS), (RADIUS, RADIUS)), mode="reflect")
    found = []
    for wave in filters():
        response = signal.fftconvolve(padded, wave[None], mode="valid", axes=(1, 2))
        found.append(ndimage.gaussian_filter(np.abs(response), (0, patch_size / 2, patch_size / 2)))
    energy = np.stack(found, axis=-1)  # [B, H, W, F]
    energy /= energy.sum(-1, keepdims=True)
    batch, height, width, count = energy.shape
    rows, columns = height // patch_size, width // patch_size
    return energy.reshape(batch, rows, patch_size, columns, patch_size, count).mean((2, 4))


def filters() -> list[Array]:
    """Complex gratings under a Gaussian, without response to a constant."""
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    envelope = np.exp(-(x**2 + y**2) / (2 * DEVIATION**2))
    result = []
    for period in PERIODS:
        for angle in np.pi * np.arange(DIRECTIONS) / DIRECTIONS:
            along = x * np.cos(angle) + y * np.sin(angle)
            wave = envelope * np.exp(2j * np.pi * along / period)
            result.append(wave - envelope * wave.sum() / envelope.sum())
    return result


def k_means(features: Array, num_clusters: int) -> Array:
    """Labels `[N]` of features `[N, D]`."""
    return KMeans(num_clusters, n_init=3, random_state=0).fit_predict(features)


CLUSTERINGS: dict[str, Callable[[Array, int], Array]] = {
    "average linkage": average_linkage,
    "k-means": k_means,
}


if __name__ == "__main__":
    sys.exit(main())
