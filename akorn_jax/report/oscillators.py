"""Oscillators in motion: their phases as colours, and what they agree on, step by step."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax import state as states
from akorn_jax.data import Examples
from akorn_jax.evaluation import clustering
from akorn_jax.evaluation.matching import match_labels
from akorn_jax.layers.kuramoto import normalize
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import contents

STRONGEST = 99.0  # percentile of a component that gets its strongest colour
# OKLab: middle and half range of the lightness, half range of the two axes of colour
LIGHTNESS, LIGHTNESS_RANGE, CHROMA = 0.65, 0.3, 0.16


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


class Layer(NamedTuple):
    """What a layer iterates: `[S, B, h, w, C]` after steps `first`, `first + 1`, ..."""

    first: int
    tokens: np.ndarray
    energies: np.ndarray | None


def move(output: ModelOutput) -> bool:
    """Whether a model whose output has these parts can be followed."""
    return not {"oscillators", "tokens"}.isdisjoint(output.trajectory or ())


def follow(
    model: nnx.Module, config: ConfigDict, examples: Examples, indices: Sequence[int]
) -> Frames:
    """Runs a model with oscillators, or other tokens that move, on the scenes at `indices`."""
    layers = unfold(model, config, examples, indices)
    names = [
        (f"layer {l}, " if len(layers) > 1 else "") + f"step {layer.first + s}"
        for l, layer in enumerate(layers, start=1)
        for s in range(len(layer.tokens))
    ]
    energies = [layer.energies for layer in layers if layer.energies is not None]
    return Frames(
        indices=list(indices),
        names=names,
        phases=np.concatenate([colors(layer.tokens) for layer in layers]),
        clusters=np.stack(
            [
                clusters(tokens, config, examples, indices)
                for layer in layers
                for tokens in layer.tokens
            ]
        ),
        energies=np.concatenate(energies) if energies else None,
    )


def unfold(
    model: nnx.Module, config: ConfigDict, examples: Examples, indices: Sequence[int]
) -> list[Layer]:
    """The layers of a model, step by step.

    Oscillators start where they did in the evaluation (without up-tiling), and are shown before
    the first step too. A model gives the energy before each step: that after the last is known
    from one step more.
    """
    images = examples.images[np.array(indices)]
    parts = contents.of(model, config, images.shape[1:]).trajectory
    if "oscillators" not in parts:
        trajectory = _call(model, images, key=jax.random.key(config.eval.seed)).trajectory
        return [Layer(1, np.asarray(tokens), None) for tokens in trajectory["tokens"]]
    x0 = initial(parts["oscillators"][0].shape[2:], config, indices)
    trajectory = _call(_one_step_more(model, config), images, x0=x0).trajectory
    start, layers = normalize(x0, config.model.oscillator_dim), []
    for x, energies in zip(trajectory["oscillators"], trajectory["energies"], strict=True):
        tokens = jnp.concatenate([start[None], x[:-1]])
        layers.append(Layer(0, np.asarray(tokens, np.float32), np.asarray(energies[1:])))
        start = x[-1]
    if not config.model.gta:  # the model adds a table to x0 first: the start is its secret
        layers[0] = Layer(1, layers[0].tokens[1:], layers[0].energies[1:])
    return layers


def _call(model: nnx.Module, images: np.ndarray, **options: jax.Array) -> ModelOutput:
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state: nnx.State, images: jax.Array, options: dict[str, jax.Array]) -> ModelOutput:
        images = images.astype(jnp.float32) / 255
        return nnx.merge(graphdef, state)(images, trajectory=True, **options)

    return forward(state, images, options)


def initial(tokens: tuple[int, ...], config: ConfigDict, indices: Sequence[int]) -> jax.Array:
    """The oscillators `[B, h, w, C]` that scenes start from in the evaluation; tokens (h, w, C)."""
    size, key = config.eval.batch_size, jax.random.key(config.eval.seed)
    rows = []
    for index in indices:
        place = index % size
        draw = jax.random.normal(jax.random.fold_in(key, index - place), (size, *tokens))
        rows.append(draw[place])
    return jnp.stack(rows)


def _one_step_more(model: nnx.Module, config: ConfigDict) -> nnx.Module:
    """The same weights with one step more in the last layer."""
    settings = config.model.to_dict()
    steps = settings["num_steps"]
    steps = [steps] * settings["num_layers"] if isinstance(steps, int) else list(steps)
    settings["num_steps"] = [*steps[:-1], steps[-1] + 1]
    longer = states.build_model(settings, config.seed)
    nnx.update(longer, nnx.state(model))
    return longer


def clusters(
    tokens: np.ndarray, config: ConfigDict, examples: Examples, indices: Sequence[int]
) -> np.ndarray:
    """Tokens `[B, h, w, C]` clustered: labels `[B, H, W]`, named after true segments."""
    true = examples.labels[np.array(indices)]
    labels = clustering.cluster_maps(
        clustering.unit_vectors(tokens),
        config.data.num_clusters,
        dims=config.eval.pca,
        num_workers=0,
    )
    labels = clustering.upsample_nearest(labels, true.shape[1:])
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
