"""Oscillators in motion: their phases as colours, and what they agree on, step by step."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from akorn_jax.data.records import Examples
from akorn_jax.evaluation import clustering
from akorn_jax.evaluation.matching import match_labels
from akorn_jax.evaluation.plots import colorize
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import animation, scenes
from akorn_jax.report.frames import Frames
from akorn_jax.report.run import Run

TITLE, ORDER = "Motion", 10
STRONGEST = 99.0  # percentile of a component that gets its strongest colour
# OKLab: middle and half range of the lightness, half range of the two axes of colour
LIGHTNESS, LIGHTNESS_RANGE, CHROMA = 0.65, 0.3, 0.16


class Layer(NamedTuple):
    """The states of a layer, `[S, B, h, w, C]` after steps `first`, `first + 1`, ..."""

    first: int
    tokens: np.ndarray
    energies: np.ndarray | None


def applies(output: ModelOutput) -> bool:
    """Whether the model iterates oscillators or tokens, whose clusters are an image's segments."""
    iterates = not {"oscillators", "tokens"}.isdisjoint(output.trajectory or ())
    return iterates and output.features is not None


def render(run: Run, outputs: Mapping[int, ModelOutput], examples: Examples) -> dict[str, Any]:
    """What the section shows; `figures/oscillators.gif` is written on the way."""
    frames = follow(outputs, run.config, examples)
    animation.write(run.workdir / "figures" / "oscillators.gif", frames, examples)
    return {
        "names": frames.names,
        "has_energy": frames.energies is not None,
        "energy_range": _energy_range(frames.energies),
        "scenes": [_scene(frames, examples, place) for place in range(len(frames.indices))],
    }


def follow(outputs: Mapping[int, ModelOutput], config: ConfigDict, examples: Examples) -> Frames:
    """The frames of the scenes of `outputs`."""
    indices = list(outputs)
    layers = trajectory_layers(outputs.values())
    names = [
        (f"layer {l}, " if len(layers) > 1 else "") + f"step {layer.first + s}"
        for l, layer in enumerate(layers, start=1)
        for s in range(len(layer.tokens))
    ]
    energies = [layer.energies for layer in layers if layer.energies is not None]
    grid = max(layer.tokens.shape[2:4] for layer in layers)
    return Frames(
        indices=indices,
        names=names,
        phases=np.concatenate([_enlarged(colors(layer.tokens), grid) for layer in layers]),
        clusters=np.stack(
            [
                clusters(tokens, config, examples, indices)
                for layer in layers
                for tokens in layer.tokens
            ]
        ),
        energies=np.concatenate(energies) if energies else None,
    )


def trajectory_layers(outputs: Iterable[ModelOutput]) -> list[Layer]:
    """The layers of a model, step by step; oscillators are shown before the first step too."""
    trajectories = [output.trajectory for output in outputs]
    if "oscillators" not in trajectories[0]:
        layers = zip(*(t["tokens"] for t in trajectories), strict=True)
        return [Layer(1, np.stack(scenes, axis=1).astype(np.float32), None) for scenes in layers]
    found = []
    for l in range(len(trajectories[0]["oscillators"])):
        tokens = [
            np.concatenate([t["initial"][l][None], t["oscillators"][l]]) for t in trajectories
        ]
        energies = [np.append(t["energies"][l][1:], t["final_energy"][l]) for t in trajectories]
        tokens = np.stack(tokens, axis=1).astype(np.float32)  # [T + 1, B, h, w, C]
        found.append(Layer(0, tokens, np.stack(energies, axis=1)))
    return found


def _enlarged(phases: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Colours `[S, B, h, w, 3]` on a finer grid, each pixel that of the token it lies in."""
    rows, columns = (np.arange(m) * n // m for n, m in zip(phases.shape[2:4], grid, strict=True))
    return phases[:, :, rows[:, None], columns]


def _energy_range(energies: np.ndarray | None) -> tuple[float, float] | None:
    return None if energies is None else (float(energies.min()), float(energies.max()))


def _scene(frames: Frames, examples: Examples, place: int) -> dict[str, Any]:
    index = frames.indices[place]
    maps = np.stack([scenes.shrink(labels) for labels in frames.clusters[:, place]])
    heights = []
    if frames.energies is not None:
        low, high = _energy_range(frames.energies)
        heights = 100 * (high - frames.energies[:, place]) / max(high - low, 1e-12)
    true = examples.segmentation
    return {
        "index": index,
        "image": scenes.picture(scenes.shrink_image(examples.images[index])),
        "true": None if true is None else scenes.label_picture(scenes.shrink(true[index])),
        "phases": scenes.film(frames.phases[:, place]),
        "clusters": scenes.film(colorize(maps)),
        "heights": [round(float(h), 1) for h in heights],
    }


def clusters(
    tokens: np.ndarray, config: ConfigDict, examples: Examples, indices: Sequence[int]
) -> np.ndarray:
    """Tokens `[B, h, w, C]` clustered: labels `[B, H, W]`, named after true segments."""
    labels = clustering.cluster_maps(
        clustering.unit_vectors(tokens),
        config.data.num_clusters,
        dims=config.eval.pca,
        num_workers=0,
    )
    labels = clustering.upsample_nearest(labels, examples.images.shape[1:3])
    if examples.segmentation is None:
        return labels
    true = examples.segmentation[np.array(indices)]
    return match_labels(true, labels, ignore_ids=examples.ignore_ids)


def colors(tokens: np.ndarray) -> np.ndarray:
    """Colours of tokens, by one projection a scene for all its steps.

    The axes are the first three principal components of the last step. They are lightness, blue
    against yellow and green against red of OKLab (Ottosson 2020), in this order, so that readers
    who see fewer colours lose the least.

    Args:
        tokens: `[S, B, h, w, C]`, three channels at least.

    Returns:
        `[S, B, h, w, 3]` uint8.
    """
    scenes = []
    for scene in np.moveaxis(tokens.astype(np.float64), 1, 0):
        last = scene[-1].reshape(-1, scene.shape[-1])
        centred = last - last.mean(0)
        _, axes = np.linalg.eigh(centred.T @ centred)
        axes = axes[:, :-4:-1]
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(3)])  # a sign for good
        strongest = np.percentile(np.abs(centred @ axes), STRONGEST, axis=0)
        parts = (scene - last.mean(0)) @ axes / np.maximum(strongest, 1e-12)
        scenes.append(_oklab(np.clip(parts, -1, 1)))
    return np.stack(scenes, axis=1)


def _oklab(parts: np.ndarray) -> np.ndarray:
    """(lightness, yellow, red) `[..., 3]` in [-1, 1] to sRGB uint8."""
    lightness = LIGHTNESS + LIGHTNESS_RANGE * parts[..., 0]
    b, a = CHROMA * parts[..., 1], CHROMA * parts[..., 2]
    l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
        ],
        axis=-1,
    )
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)
