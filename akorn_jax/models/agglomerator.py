"""Agglomerator (arXiv 2203.03282): part-whole hierarchies as islands of agreement between columns.

An image is a grid of N columns. A column has L levels, a vector of d features each, from parts to
wholes; columns that see the same part or whole are to agree on its vector.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.dropout import dropout
from akorn_jax.layers.linear import linear, uniform_fan_in
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.patch import pair, token_grid
from akorn_jax.outputs import ModelOutput

Array = jax.Array

DOWNSAMPLINGS = (1, 2, 4)
SELF_LOGIT = -5e-4  # of a column's attention to itself: the mean logit, not minus infinity
SHARE = 0.25  # initial weight of each of the four contributions to a level
EPSILON = 1e-5  # of all norms
EXPANSION = 4  # of the hidden layers

gelu = functools.partial(jax.nn.gelu, approximate=False)
layer_norm = functools.partial(nnx.LayerNorm, epsilon=EPSILON, use_fast_variance=False)


class Tokenizer(nnx.Module):
    """Three convolutions; their feature maps, cut to p x p patches, are the tokens.

    Args:
        num_colors: channels of the images.
        channels: d of the tokens, of which a pixel of the feature map has d / p^2.
        patch_size: p.
        downsample: by how much the feature map is smaller than the image: 4 as published (a
            stride of 2, then max pooling), 2 (pooling alone) or 1 (neither).
    """

    def __init__(
        self, num_colors: int, channels: int, patch_size: int, downsample: int, *, rngs: nnx.Rngs
    ) -> None:
        width = channels // patch_size**2
        sizes = ((num_colors, width // 2), (width // 2, width // 2), (width // 2, width))
        strides = (2 if downsample == 4 else 1, 1, 1)
        self.patch_size = patch_size
        self.pool = downsample > 1
        self.convolutions = nnx.List(
            nnx.Conv(
                inputs,
                outputs,
                (3, 3),
                strides=stride,
                padding=1,
                use_bias=False,
                kernel_init=uniform_fan_in(9 * inputs),
                rngs=rngs,
            )
            for (inputs, outputs), stride in zip(sizes, strides, strict=True)
        )
        self.norms = nnx.List(BatchNorm(outputs) for _, outputs in sizes)

    def __call__(self, x: Array, *, train: bool) -> Array:
        """`[B, H, W, C]` to tokens `[B, h, w, d]`."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = jax.nn.relu(norm(convolution(x), train=train))
        if self.pool:
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        B, height, width, channels = x.shape
        p = self.patch_size
        x = x.reshape(B, height // p, p, width // p, p, channels).transpose(0, 1, 3, 5, 2, 4)
        return x.reshape(B, height // p, width // p, -1)


class ColumnNorm(nnx.Module):
    """Layer normalisation of `[..., N, d]` over the N columns.

    Columns start equal, where sqrt(variance + 1e-5) is so small that rounding of the mean would
    show; differences from the first column are exactly zero then.
    """

    def __init__(self, num_columns: int) -> None:
        self.scale = nnx.Param(jnp.ones(num_columns))
        self.bias = nnx.Param(jnp.zeros(num_columns))

    def __call__(self, x: Array) -> Array:
        x = x - first_column(x)
        x = x - jnp.mean(x, axis=-2, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-2, keepdims=True) + EPSILON)
        return x * self.scale[:, None] + self.bias[:, None]


class ColumnNetworks(nnx.Module):
    """One network of two layers for each of G levels, the same in all columns and steps.

    Its layer norms run over the columns, of which each has a scale and a bias: that ties the
    weights to N, and is all that tells a column where it is.

    Args:
        num_levels: G.
        num_columns: N.
        channels: d.
        activation: between the layers.
    """

    def __init__(
        self,
        num_levels: int,
        num_columns: int,
        channels: int,
        activation: Callable[[Array], Array],
        *,
        rngs: nnx.Rngs,
    ) -> None:
        hidden = EXPANSION * channels
        across = functools.partial(ColumnNorm, num_columns)
        first, second = uniform_fan_in(channels), uniform_fan_in(hidden)
        self.activation = activation
        self.norm_in = across()
        self.kernel_in = nnx.Param(first(rngs.params(), (num_levels, channels, hidden)))
        self.bias_in = nnx.Param(first(rngs.params(), (num_levels, hidden)))
        self.norm_hidden = across()
        self.kernel_out = nnx.Param(second(rngs.params(), (num_levels, hidden, channels)))
        self.bias_out = nnx.Param(second(rngs.params(), (num_levels, channels)))

    def __call__(self, x: Array) -> Array:
        """`[G, B, N, d]` to the same shape."""
        x = grouped(self.norm_in(x), self.kernel_in[...], self.bias_in[...])
        x = self.norm_hidden(self.activation(x))
        return grouped(x, self.kernel_out[...], self.bias_out[...])


class ContrastiveHead(nnx.Module):
    """The top level of all columns to one embedding of length 1.

    Args:
        num_columns: N.
        channels: d.
        embedding_size: of the result.
        dropout: probability that a feature is zeroed in training, before three of the layers.
    """

    def __init__(
        self,
        num_columns: int,
        channels: int,
        embedding_size: int,
        dropout: float,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        width = num_columns * channels
        self.dropout = dropout
        self.norm_columns = layer_norm(channels, rngs=rngs)
        self.norm_in = layer_norm(width, rngs=rngs)
        self.hidden = linear(width, width, rngs=rngs)
        self.norm_hidden = layer_norm(width, rngs=rngs)
        self.norm_out = layer_norm(width, rngs=rngs)
        self.out = linear(width, embedding_size, rngs=rngs)

    def __call__(self, top: Array, noise: Noise | None) -> Array:
        """`[B, N, d]` to `[B, embedding_size]`; without noise nothing is dropped."""
        z = dropout(self.norm_columns(top), self.dropout, noise)
        z = self.norm_in(z.reshape(len(z), -1))
        z = self.hidden(dropout(z, self.dropout, noise))
        z = self.norm_out(gelu(self.norm_hidden(z)))
        return unit(self.out(dropout(z, self.dropout, noise)))


class Classifier(nnx.Module):
    """Embeddings to class scores, two layers."""

    def __init__(self, embedding_size: int, num_classes: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = linear(embedding_size, embedding_size, rngs=rngs)
        self.out = linear(embedding_size, num_classes, rngs=rngs)

    def __call__(self, z: Array) -> Array:
        """`[B, embedding_size]` to `[B, num_classes]`."""
        return self.out(gelu(self.hidden(z)))


class Model(nnx.Module):
    """Columns that exchange messages with the levels above and below and with each other.

    Args:
        image_size: H = W, or (H, W).
        num_colors: channels that are read: 3, or 1, the first, of grey images.
        patch_size: p, of the tokenizer's feature map; the columns see p x p of its pixels.
        downsample: see `Tokenizer`; the grid is h = H / (downsample p) high.
        channels: d.
        num_levels: L.
        num_steps: T, unless the call says otherwise; None is 2 L. What an image shows climbs one
            level a step, so the top level knows of it if T >= L.
        head_pool: the head reads means over squares of so many columns a side; 1, as published,
            reads every column, and its hidden layer grows with the square of their number.
        head_step: the step after which the head reads the top level; None is the last.
        radius: columns attend to others that are no further, in columns; 0 is everywhere.
        attend_self: let a column attend to itself by similarity, not at the mean logit.
        normalize_by_count: divide each level by the number of its contributions, in addition to
            their weights, as published.
        dropout: see `ContrastiveHead`.
        embedding_size: of the contrastive features.
        num_classes: of the classifier.
        mean, std: images in [0, 1] are centred and scaled by these, one number per channel.

    Raises:
        ValueError: sizes that leave fewer than two columns or no channels, or another value that
            no model has.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 32,
        num_colors: int = 3,
        patch_size: int = 1,
        downsample: int = 4,
        channels: int = 128,
        num_levels: int = 2,
        num_steps: int | None = None,
        head_pool: int = 1,
        head_step: int | None = None,
        radius: float = 0.0,
        attend_self: bool = False,
        normalize_by_count: bool = True,
        dropout: float = 0.3,
        embedding_size: int = 512,
        num_classes: int = 10,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        if num_levels < 1:
            raise ValueError(f"{num_levels=}: a column has at least 1 level.")
        if not 0 <= dropout < 1:
            raise ValueError(f"{dropout=} is a probability below 1.")
        _check_channels(channels, patch_size)
        self.image_size = pair(image_size)
        self.grid_size = column_grid(self.image_size, patch_size, downsample)
        self.num_colors = num_colors
        self.num_levels = num_levels
        self.num_steps = 2 * num_levels if num_steps is None else num_steps
        if head_pool < 1 or any(side % head_pool for side in self.grid_size):
            h, w = self.grid_size
            raise ValueError(f"{head_pool=} does not divide the {h}x{w} columns; use a divisor.")
        self.head_pool = head_pool
        self.head_step = head_step
        self.radius = radius
        self.attend_self = attend_self
        self.normalize_by_count = normalize_by_count
        self.mean, self.std = (_per_channel(v, num_colors) for v in (mean, std))
        N = math.prod(self.grid_size)
        self.tokenizer = Tokenizer(num_colors, channels, patch_size, downsample, rngs=rngs)
        initial = jax.random.normal(rngs.params(), (num_levels, channels))
        self.initial_levels = nnx.Param(initial)
        self.bottom_up = ColumnNetworks(num_levels, N, channels, gelu, rngs=rngs)
        if num_levels > 1:
            self.top_down = ColumnNetworks(num_levels - 1, N, channels, jnp.sin, rngs=rngs)
        self.weight_self = nnx.Param(jnp.asarray(SHARE))
        self.weight_bottom_up = nnx.Param(jnp.asarray(SHARE))
        self.weight_top_down = nnx.Param(jnp.asarray(SHARE))
        self.weight_attention = nnx.Param(jnp.asarray(SHARE))
        self.head = ContrastiveHead(N // head_pool**2, channels, embedding_size, dropout, rngs=rngs)
        self.classifier = Classifier(embedding_size, num_classes, rngs=rngs)

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        num_steps: int | None = None,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` (or of `num_colors` channels) in [0, 1] to an embedding.

        Args:
            key: draws the dropout in training.
            train: drop features, and normalise by the statistics of the batch.
            trajectory: keep the levels after every step.
            num_steps: T of this call.

        Returns:
            embedding `[B, embedding_size]` of length 1, logits `[B, num_classes]`, features
            `[B, h, w, d]` (the top level after the last step) and, if asked for, trajectory with
            "levels" `[T, B, h, w, L, d]`.

        Raises:
            ValueError: images of another size, or a number of steps that the head cannot read.
        """
        T = self.num_steps if num_steps is None else num_steps
        t = T if self.head_step is None else self.head_step
        if not 0 <= t <= T or T < 1:
            raise ValueError(
                f"num_steps={T}, head_step={t}: the head reads the levels after step 0 to num_steps"
                ", of which there is at least 1."
            )
        noise = Noise.of(key) if train and self.head.dropout else None
        tokens = self._tokens(images, train)
        B, h, w, d = tokens.shape
        tokens = tokens.reshape(B, h * w, d)
        shape = (self.num_levels, B, h * w, d)
        initial = jnp.broadcast_to(self.initial_levels[:, None, None], shape)
        levels, states = self.update(tokens, initial, T)
        top = levels[-1] if t == T else (initial if t == 0 else states[t - 1])[-1]
        embedding = self.head(self._pooled(top), noise)
        states = jnp.moveaxis(states, 1, -2).reshape(T, B, h, w, self.num_levels, d)
        return ModelOutput(
            embedding=embedding,
            logits=self.classifier(embedding),
            features=levels[-1].reshape(B, h, w, d),
            trajectory={"levels": (states,)} if trajectory else None,
        )

    def update(self, tokens: Array, levels: Array, num_steps: int) -> tuple[Array, Array]:
        """Tokens `[B, N, d]` and levels X `[L, B, N, d]`, equal in all columns, to X after T steps
        and, `[T, ...]`, after each of them. What is in between is computed again for gradients."""
        near = neighbours(self.grid_size, self.radius) if self.radius > 0 else None
        weights = (
            self.weight_self[...],
            self.weight_bottom_up[...],
            self.weight_top_down[...],
            self.weight_attention[...],
        )
        count = np.full((self.num_levels, 1, 1, 1), 4.0, np.float32)
        count[-1] = 3.0  # nothing is above the top

        @jax.checkpoint
        def step(X: Array, t: Array) -> tuple[Array, Array]:
            # A norm over equal columns has no gradient; rounding would make it one.
            normalized = jnp.where(t == 0, jax.lax.stop_gradient(X), X)
            from_below, from_above = self.messages(tokens, normalized)
            from_peers = weighted_mean(consensus(X, near, self.attend_self), X)
            contributions = (X, from_below, from_above, from_peers)
            X = sum(w * x for w, x in zip(weights, contributions, strict=True))
            X = X / count if self.normalize_by_count else X
            return X, X

        return jax.lax.scan(step, levels, jnp.arange(num_steps))

    def messages(self, tokens: Array, X: Array) -> tuple[Array, Array]:
        """What levels X `[L, B, N, d]` hear from the level below and, zero at the top, above."""
        from_below = self.bottom_up(jnp.concatenate([tokens[None], X[:-1]]))
        from_above = jnp.zeros_like(X[:1])
        if self.num_levels > 1:
            from_above = jnp.concatenate([self.top_down(X[1:]), from_above])
        return from_below, from_above

    def _pooled(self, top: Array) -> Array:
        """`[B, N, d]` to means over squares of columns, `[B, N / head_pool^2, d]`."""
        if self.head_pool == 1:
            return top
        h, w = (side // self.head_pool for side in self.grid_size)
        top = top.reshape(len(top), h, self.head_pool, w, self.head_pool, -1).mean(axis=(2, 4))
        return top.reshape(len(top), h * w, -1)

    def _tokens(self, images: Array, train: bool) -> Array:
        expected = (*self.image_size, self.num_colors)
        images = images[..., : self.num_colors]
        if images.shape[1:] != expected:
            raise ValueError(
                f"images of {images.shape[1:]}, the model takes {expected}: set "
                "config.model.image_size and num_colors to what the data has."
            )
        return self.tokenizer((images - jnp.array(self.mean)) / jnp.array(self.std), train=train)


def consensus(x: Array, near: Array | None = None, attend_self: bool = False) -> Array:
    """How much columns i listen to columns j, `[..., N, N]`, sums to 1 over j.

    A softmax over x_i . x_j / (|x_j| sqrt(d)): long vectors attend sharply.

    Args:
        x: `[..., N, d]`, one level.
        near: bool `[N, N]`, where a column may attend; None: everywhere.
        attend_self: otherwise the diagonal has the logit -5e-4.
    """
    N, d = x.shape[-2:]
    logits = x @ unit(x).swapaxes(-1, -2) * d**-0.5
    if not attend_self:
        logits = jnp.where(jnp.eye(N, dtype=bool), SELF_LOGIT, logits)
    if near is not None:
        logits = jnp.where(near, logits, -jnp.inf)
    return jax.nn.softmax(logits, axis=-1)


def weighted_mean(weights: Array, x: Array) -> Array:
    """Weights `[..., N, N]`, which sum to 1 over the last axis, and x `[..., N, d]` to
    `[..., N, d]`; of equal columns exactly what they are, see `ColumnNorm`."""
    first = first_column(x)
    return first + weights @ (x - first)


def first_column(x: Array) -> Array:
    """A constant to measure columns from, where what comes out does not depend on it."""
    return jax.lax.stop_gradient(x[..., :1, :])


def neighbours(grid_size: tuple[int, int], radius: float) -> np.ndarray:
    """Which of the N = h w columns are within a Euclidean distance, bool `[N, N]`."""
    places = np.indices(grid_size).reshape(2, -1)
    offsets = places[:, :, None] - places[:, None]
    return (offsets**2).sum(axis=0) <= radius**2


def column_grid(image_size: tuple[int, int], patch_size: int, downsample: int) -> tuple[int, int]:
    """(h, w) of the columns.

    Raises:
        ValueError: the patches do not tile the tokenizer's feature map, or there are fewer than two
            columns, over which nothing can be normalised.
    """
    if downsample not in DOWNSAMPLINGS:
        raise ValueError(f"{downsample=} is unknown; it is one of {DOWNSAMPLINGS}.")
    feature_map = tuple(-(-side // downsample) for side in image_size)
    h, w = token_grid(feature_map, patch_size) if _tiles(feature_map, patch_size) else (0, 0)
    if h * w < 2:
        raise ValueError(
            f"{image_size=} gives a feature map of {feature_map[0]}x{feature_map[1]}, which "
            f"{patch_size=} cuts into {'fewer than 2 columns' if h else 'no whole patches'}; set "
            "config.model.patch_size=1, or enlarge image_size."
        )
    return h, w


def grouped(x: Array, kernel: Array, bias: Array) -> Array:
    """x `[G, B, N, d]` by one kernel per group, `[G, d, e]`, and bias `[G, e]`."""
    G, B, N, d = x.shape
    y = x.reshape(G, B * N, d) @ kernel + bias[:, None]
    return y.reshape(G, B, N, -1)


def unit(x: Array) -> Array:
    """x divided by its length along the last axis; zero stays zero."""
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


def _tiles(feature_map: tuple[int, int], patch_size: int) -> bool:
    return all(side % patch_size == 0 for side in feature_map)


def _check_channels(channels: int, patch_size: int) -> None:
    width, rest = divmod(channels, patch_size**2)
    if width < 2 or rest:
        raise ValueError(
            f"{channels=} over {patch_size=} leaves {channels / patch_size**2:g} channels for a "
            "pixel of the feature map, which needs a whole number of at least 2; set "
            "config.model.patch_size=1, or raise channels."
        )


def _per_channel(value: float | Sequence[float], num_colors: int) -> tuple[float, ...]:
    values = (value,) * num_colors if isinstance(value, int | float) else tuple(value)
    if len(values) != num_colors:
        raise ValueError(f"{values} has {len(values)} numbers, images have {num_colors=}.")
    return values
