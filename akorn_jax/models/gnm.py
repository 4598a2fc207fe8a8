"""GNM, Generative Neurosymbolic Machines (arXiv 2010.12152): scenes of objects from one latent.

A distributed latent z^g, drawn in T steps, gives a map of features. The map gives the prior of what
each cell of a grid holds - presence, box, depth, appearance - so that objects are drawn together
and a sample of the prior is a scene.
"""

import itertools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.special import logit

from akorn_jax.layers.distributions import (
    POSITIVE,
    PROBABILITY,
    Normal,
    bernoulli_kl,
    normal_kl,
    normal_log_prob,
    normal_sample,
    relaxed_bernoulli,
    total,
)
from akorn_jax.layers.image_size import check_image_size
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.normed_mlp import NormedMLP
from akorn_jax.layers.spatial_transformer import corners, grid_centers, place
from akorn_jax.layers.struct_draw import StructDraw
from akorn_jax.layers.subpixel import ConvBlock
from akorn_jax.outputs import ModelOutput

Array = jax.Array

# Bound of the presence's logits: probabilities stay 1.5e-4 away from 0 and 1.
MAX_LOGIT = 8.8
# Fixed prior of a raw box's (ratio, x, y), mean and deviation: about square, anywhere in the cell.
SHAPE_PRIOR = (0.0, 0.0, 0.0), (0.3, 1.0, 1.0)
# While the bootstrap is on: the share of the foreground in every pixel, and the surest presence.
BOOTSTRAP_ALPHA, BOOTSTRAP_PRESENCE = 0.9, 0.99


class Cells(NamedTuple):
    """The distributions of N = G^2 cells, row by row."""

    pres: Array  # logits [B, N, 1]
    where: Normal  # [B, N, 4], before `boxes`
    depth: Normal  # [B, N, 1], small is near
    what: Normal  # [B, N, D]


class Latents(NamedTuple):
    """A draw of `Cells`; presence in [0, 1]."""

    pres: Array
    where: Array
    depth: Array
    what: Array


class Head(nnx.Module):
    """A map `[B, G, G, C]` to the distributions of its cells; prior and posterior share it."""

    def __init__(
        self, in_features: int, channels: Sequence[int], what_size: int, *, rngs: nnx.Rngs
    ) -> None:
        widths = [in_features, *channels]
        self.blocks = nnx.List(ConvBlock(i, o, 1, rngs=rngs) for i, o in itertools.pairwise(widths))
        self.pres = linear(widths[-1], 1, rngs=rngs)
        self.where = linear(widths[-1], 8, rngs=rngs)
        self.depth = linear(widths[-1], 2, rngs=rngs)
        self.what = linear(widths[-1], 2 * what_size, rngs=rngs)
        # At first all boxes are alike, small and in the middle of their cells.
        init = nnx.initializers.uniform(0.02)
        kernel = init(rngs.params(), self.where.kernel.shape) - 0.01
        self.where.kernel[...] = kernel
        self.where.bias[...] = jnp.zeros(8).at[0].set(-1.0)

    def __call__(self, features: Array) -> Cells:
        x = features
        for block in self.blocks:
            x = block(x)
        x = x.reshape(len(x), -1, x.shape[-1])  # [B, N, C]
        return Cells(
            pres=MAX_LOGIT * jnp.tanh(self.pres(x)),
            where=Normal.of(self.where(x)),
            depth=Normal.of(self.depth(x)),
            what=Normal.of(self.what(x)),
        )


class Model(nnx.Module):
    """A variational autoencoder of scenes with up to G^2 objects on a background.

    The grid has G = `image_size` / product of the encoder's strides rows and columns.

    Args:
        image_size: H = W.
        std: of a pixel around the reconstruction; the setting that matters most.
        size_prior: mean and deviation of a box's size before its sigmoid, in the fixed prior: -1.5
            is 18 % of the image's side.
        num_draws: T, steps of the global latent.
        global_size, what_size, background_size: latents per step, per object, of the background.
        encoder_channels, encoder_strides: one convolution each, with a kernel of 4 pixels where the
            stride is 2 and of 3 where it is 1.
        glimpse_channels: layers of the glimpse decoder. Each doubles the size, and so does one more
            behind them: glimpses have 2^(layers + 1) pixels a side.
        background_channels, background_upscales: layers of the background's decoder, which grow
            from one pixel to `image_size`.
        head_channels: of the 1 x 1 convolutions that read the cells off a map.
        draw_channels: of the encoder's and the decoder's LSTM behind the global latent.
        global_prior, global_posterior: hidden widths of its distributions.
        global_decoder: widths of the network behind it; the last one is a map, divisible by G^2.
        background_prior, background_posterior: hidden widths of the background's distributions.

    Raises:
        ValueError: there are not as many strides as channels, they do not divide the image, the
            background does not grow to its size, the global decoder's map does not fit the grid, a
            deviation is not positive, or the background has no latent.
    """

    option_ranges: ClassVar = {"temperature": POSITIVE, "presence_prior": PROBABILITY}

    def __init__(
        self,
        *,
        image_size: int = 128,
        std: float = 0.2,
        size_prior: Sequence[float] = (-1.5, 0.1),
        num_draws: int = 4,
        global_size: int = 32,
        what_size: int = 64,
        background_size: int = 10,
        encoder_channels: Sequence[int] = (16, 16, 32, 32, 64, 64, 128, 128, 128),
        encoder_strides: Sequence[int] = (2, 1, 2, 1, 2, 1, 2, 1, 2),
        glimpse_channels: Sequence[int] = (128, 64, 32, 16, 8),
        background_channels: Sequence[int] = (128, 64, 32, 16, 8),
        background_upscales: Sequence[int] = (4, 2, 4, 2, 2),
        head_channels: Sequence[int] = (128, 128),
        draw_channels: Sequence[int] = (128, 128),
        global_prior: Sequence[int] = (512, 512),
        global_posterior: Sequence[int] = (512, 512),
        global_decoder: Sequence[int] = (512, 1024, 2048),
        background_prior: Sequence[int] = (128, 64),
        background_posterior: Sequence[int] = (512, 256),
        rngs: nnx.Rngs,
    ) -> None:
        if std <= 0:
            raise ValueError(f"{std=} must be above 0.")
        if len(size_prior) != 2 or size_prior[1] <= 0:
            raise ValueError(f"{size_prior=} must be a mean and a deviation above 0.")
        if background_size < 1:
            raise ValueError(f"{background_size=} must be at least 1.")
        if len(encoder_channels) != len(encoder_strides) or not encoder_channels:
            raise ValueError(
                f"{encoder_channels=} and {encoder_strides=} must be equally many, at least one."
            )
        if len(background_channels) != len(background_upscales):
            raise ValueError(
                f"{background_channels=} and {background_upscales=} must be equally many."
            )
        stride = int(np.prod(encoder_strides))
        if image_size % stride:
            raise ValueError(
                f"{image_size=} is not divisible by {stride}, the product of encoder_strides."
            )
        if np.prod(background_upscales) != image_size:
            raise ValueError(
                f"The product of background_upscales={tuple(background_upscales)} must be "
                f"{image_size=}: the background grows from one pixel."
            )
        grid_size = image_size // stride
        channels = encoder_channels[-1]
        self.image_size = image_size
        self.std = std
        self.size_prior = tuple(size_prior)
        self.encoder = _encoder(encoder_channels, encoder_strides, rngs)
        self.draw = StructDraw(
            channels,
            grid_size,
            num_steps=num_draws,
            latent_size=global_size,
            hidden=draw_channels,
            prior=global_prior,
            posterior=global_posterior,
            decoder=global_decoder,
            rngs=rngs,
        )
        self.head = Head(channels, head_channels, what_size, rngs=rngs)
        layers = len(glimpse_channels) + 1
        self.glimpse_decoder = _decoder(
            what_size,
            [*glimpse_channels, 4],
            upscales=[2] * layers,
            kernels=[3] * layers,
            rngs=rngs,
        )
        layers = len(background_channels)
        self.background_decoder = _decoder(
            background_size,
            [*background_channels, 3],
            upscales=[*background_upscales, 1],
            kernels=[1] * layers + [3],
            rngs=rngs,
        )
        self.background_prior = NormedMLP(
            num_draws * global_size, [*background_prior, 2 * background_size], rngs=rngs
        )
        self.background_posterior = NormedMLP(
            channels * grid_size**2, [*background_posterior, 2 * background_size], rngs=rngs
        )

    def __call__(
        self,
        inputs: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        temperature: float | Array = 0.5,
        presence_prior: float | Array = 0.001,
        bootstrap: bool | Array = False,
    ) -> ModelOutput:
        """Images to the terms of the objective, and to what explains them.

        Args:
            inputs: images `[B, H, W, 3]` in [0, 1], H = W = `image_size`.
            key: draws the latents, also at evaluation.
            train, trajectory: change nothing; all models take them.
            temperature: of the relaxed presence.
            presence_prior: probability of an object in `aux_pres`.
            bootstrap: the foreground counts in every pixel, so that objects learn before the
                background explains the image alone.

        Returns:
            terms, recon, masks and patches (the background first, then the cells row by row),
            slots (what is in the cells), presence and boxes.

        Raises:
            ValueError: images are of another size, or there is no key.
        """
        check_image_size(inputs, self.image_size)
        noise = Noise.of(key)
        B = len(inputs)
        features = self.encoder(inputs)
        q_bg = Normal.of(self.background_posterior(features.reshape(B, -1)))
        z_bg = normal_sample(*q_bg, noise)
        z_global, drawn, kl_global = self.draw.infer(features, noise)
        q = self.head(features)
        z = _sample(q, temperature, noise)
        scene = self._render(z, z_bg, bootstrap)

        p = self.head(drawn)
        p_bg = self._background_prior(z_global)
        terms = {
            "nll": -total(normal_log_prob(inputs, scene.recon, self.std)),
            "kl_pres": total(bernoulli_kl(q.pres, p.pres)),
            "kl_where": total(normal_kl(*q.where, *p.where)),
            "kl_depth": total(normal_kl(*q.depth, *p.depth)),
            "kl_what": total(normal_kl(*q.what, *p.what)),
            "kl_bg": total(normal_kl(*q_bg, *p_bg)),
            "kl_global": kl_global,
        }
        # The learned prior alone lets objects become anything: fixed ones keep them objects.
        present = jnp.maximum(z.pres, 1e-5)
        terms |= {
            "aux_pres": total(bernoulli_kl(q.pres, logit(jnp.float32(presence_prior)))),
            "aux_where": total(present * normal_kl(*q.where, *self.where_prior)),
            "aux_depth": total(present * normal_kl(*q.depth)),
            "aux_what": total(present * normal_kl(*q.what)),
            "aux_bg": total(normal_kl(*q_bg)),
        }
        rest = 1 - jnp.sum(scene.masks, axis=1, keepdims=True)
        return ModelOutput(
            terms=terms,
            recon=scene.recon,
            masks=jnp.concatenate([rest, scene.masks], axis=1),
            patches=jnp.concatenate([scene.background[:, None], scene.patches], axis=1),
            slots=z.what,
            presence=z.pres[..., 0],
            boxes=corners(scene.where),
        )

    @property
    def where_prior(self) -> Normal:
        """The fixed prior of a raw box (size, ratio, x, y)."""
        (mean, std), (means, stds) = self.size_prior, SHAPE_PRIOR
        return Normal(np.float32([mean, *means]), np.float32([std, *stds]))

    def sample(
        self, num_images: int, *, key: Array | Noise, temperature: float | Array = 0.5
    ) -> Array:
        """Scenes of the prior, `[num_images, H, W, 3]`."""
        noise = Noise.of(key)
        z_global = self.draw.sample(num_images, noise)
        return self.generate(z_global, key=noise, temperature=temperature)

    def global_latent(self, images: Array, *, key: Array | Noise | None = None) -> Array:
        """Images `[B, H, W, 3]` to a draw of their global latents `[T, B, D]`; without a key the
        posterior's mean in every step."""
        noise = None if key is None else Noise.of(key)
        return self.draw.infer(self.encoder(images), noise)[0]

    def interpolate(self, first: Array, last: Array, *, num_images: int) -> Array:
        """The likeliest scenes between two images `[H, W, 3]`, along the line between their global
        latents: `[num_images, H, W, 3]`."""
        z = self.global_latent(jnp.stack([first, last]))  # [T, 2, D]
        share = jnp.linspace(0, 1, num_images)[:, None]
        return self.generate((1 - share) * z[:, :1] + share * z[:, 1:])

    def generate(
        self,
        z_global: Array,
        *,
        key: Array | Noise | None = None,
        temperature: float | Array = 0.5,
    ) -> Array:
        """Scenes `[B, H, W, 3]` of global latents `[T, B, D]`.

        What the global latent leaves open is drawn, or takes its likeliest value without a key.
        """
        noise = None if key is None else Noise.of(key)
        p_bg = self._background_prior(z_global)
        z_bg = p_bg.mean if noise is None else normal_sample(*p_bg, noise)
        z = _sample(self.head(self.draw.decode(z_global)), temperature, noise)
        return self._render(z, z_bg, bootstrap=False).recon

    def _background_prior(self, z_global: Array) -> Normal:
        B = z_global.shape[1]
        return Normal.of(self.background_prior(z_global.swapaxes(0, 1).reshape(B, -1)))

    def _render(self, z: Latents, z_bg: Array, bootstrap: bool | Array) -> "Scene":
        B, N, _ = z.what.shape
        background = jax.nn.sigmoid(self.background_decoder(z_bg[:, None, None]))
        glimpses = jax.nn.sigmoid(self.glimpse_decoder(z.what.reshape(B * N, 1, 1, -1)))
        glimpses = glimpses.reshape(B, N, *glimpses.shape[1:])  # [B, N, h, w, 4]
        return compose(glimpses, z.pres, boxes(z.where), z.depth, background, bootstrap)


class Scene(NamedTuple):
    """A rendered scene and its layers."""

    recon: Array  # [B, H, W, 3]
    background: Array  # [B, H, W, 3]
    masks: Array  # [B, N, H, W], of the cells; may sum to more than 1
    patches: Array  # [B, N, H, W, 3]
    where: Array  # [B, N, 4], boxes


def compose(
    glimpses: Array,
    presence: Array,
    where: Array,
    depth: Array,
    background: Array,
    bootstrap: bool | Array = False,
) -> Scene:
    """Section 3.3: glimpses in their boxes, near ones before far ones, on the background.

    Args:
        glimpses: red, green, blue and opacity in [0, 1], `[B, N, h, w, 4]`.
        presence: `[B, N, 1]` in [0, 1].
        where: boxes (sx, sy, tx, ty), `[B, N, 4]`.
        depth: `[B, N, 1]`, small is near.
        background: `[B, H, W, 3]`.
        bootstrap: see `Model.__call__`.
    """
    o, alpha = glimpses[..., :3], glimpses[..., 3:]
    presence, depth = presence[..., None, None], depth[..., None, None]
    presence = jnp.where(bootstrap, jnp.minimum(presence, BOOTSTRAP_PRESENCE), presence)
    alpha = alpha * presence
    importance = alpha * jax.nn.sigmoid(-depth)

    size = background.shape[1:3]
    layers = jnp.concatenate([alpha * o, alpha, importance], axis=-1)
    layers = place(layers, where, size, eps=1e-15)  # [B, N, H, W, 5]
    y, masks, importance = layers[..., :3], layers[..., 3:4], layers[..., 4:]
    foreground = jnp.sum(importance * y, axis=1) / (jnp.sum(importance, axis=1) + 1e-15)
    # Where objects overlap the sum exceeds 1. What clips it does not stop the gradient.
    alpha = jnp.sum(masks, axis=1)
    alpha = alpha + jax.lax.stop_gradient(jnp.clip(alpha, 1e-15, 1.0) - alpha)
    alpha = jnp.where(bootstrap, BOOTSTRAP_ALPHA, alpha)
    return Scene(
        recon=foreground + (1 - alpha) * background,
        background=background,
        masks=masks[..., 0],
        patches=place(o, where, size, eps=1e-15),
        where=where,
    )


def boxes(raw: Array) -> Array:
    """(size, ratio, x, y) before their nonlinearities, `[B, N, 4]`, to boxes (sx, sy, tx, ty).

    A centre lies at most one cell away from its own cell's centre.
    """
    grid_size = int(raw.shape[1] ** 0.5)
    scale, ratio = jax.nn.sigmoid(raw[..., :1]), jnp.exp(raw[..., 1:2])
    sx, sy = scale / jnp.sqrt(ratio), scale * jnp.sqrt(ratio)
    center = grid_centers(grid_size) + 2 / grid_size * jnp.tanh(raw[..., 2:])
    return jnp.concatenate([sx, sy, center], axis=-1)


def _sample(cells: Cells, temperature: float | Array, noise: Noise | None) -> Latents:
    """A draw of the cells, or their modes if there is no noise."""
    if noise is None:
        pres = (cells.pres > 0).astype(jnp.float32)
        return Latents(pres, cells.where.mean, cells.depth.mean, cells.what.mean)
    return Latents(
        pres=relaxed_bernoulli(cells.pres, temperature, noise),
        where=normal_sample(*cells.where, noise),
        depth=normal_sample(*cells.depth, noise),
        what=normal_sample(*cells.what, noise),
    )


def _encoder(channels: Sequence[int], strides: Sequence[int], rngs: nnx.Rngs) -> nnx.Sequential:
    widths = [3, *channels]
    return nnx.Sequential(
        *(
            ConvBlock(i, o, stride + 2, stride, rngs=rngs)
            for i, o, stride in zip(widths[:-1], channels, strides, strict=True)
        )
    )


def _decoder(
    in_features: int,
    channels: Sequence[int],
    *,
    upscales: Sequence[int],
    kernels: Sequence[int],
    rngs: nnx.Rngs,
) -> nnx.Sequential:
    """From one pixel by sub-pixel convolutions; the last one is bare."""
    widths = [in_features, *channels]
    last = len(channels) - 1
    return nnx.Sequential(
        *(
            ConvBlock(widths[n], o, kernel, upscale=upscale, bare=n == last, rngs=rngs)
            for n, (o, upscale, kernel) in enumerate(zip(channels, upscales, kernels, strict=True))
        )
    )
