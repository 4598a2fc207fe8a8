"""SPAIR (Crawford & Pineau, AAAI 2019): objects in the cells of a grid, inferred one after another.

As the ClevrTex benchmark's authors have it: with a variational background, spatial broadcast
decoders, and a relaxed presence in place of the original's. http://e2crawfo.github.io/pdfs/
spair_aaai_2019.pdf
"""

import itertools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.scipy.special import logit

from akorn_jax.layers.cell_encoder import CellEncoder
from akorn_jax.layers.count_prior import PRESENCE_RANGE, count_prior, geometric_prior
from akorn_jax.layers.distributions import (
    POSITIVE,
    PROBABILITY,
    Normal,
    bernoulli_kl,
    logistic_noise,
    normal_kl,
    normal_log_prob,
    normal_sample,
    total,
)
from akorn_jax.layers.image_size import check_image_size
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.passing_mlp import PassingMLP
from akorn_jax.layers.spatial_transformer import corners, extract, place
from akorn_jax.layers.subpixel import Conv
from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder
from akorn_jax.outputs import ModelOutput

Array = jax.Array

RENDERINGS = ("average", "softmax")
NUM_NEIGHBORS = 4  # above left, above, above right, left; those that come before a cell
# A box (w, h, x, y): shares of the anchor, and cells from the corner of its own.
BOX_LOW, BOX_HIGH = np.float32([0, 0, -0.5, -0.5]), np.float32([1, 1, 1.5, 1.5])
BACKGROUND_PRIOR = 0.0, 3.0
MAX_RAW = 10.0  # of boxes and depths before their sigmoid
STD_FLOOR = 1e-15  # of all latents
MIN_IMPORTANCE = 0.01  # of a cell in a pixel that it does not reach
IMPORTANCE = 100.0  # of "softmax" rendering
LOGIT_RANGE = np.log(PRESENCE_RANGE) - np.log1p(-PRESENCE_RANGE)


class Cells(NamedTuple):
    """What is inferred about N cells; a leading axis N in the scan, `[B, N, ...]` behind it."""

    where: Normal  # [4], before the sigmoid
    what: Normal  # [D]
    depth: Normal  # [1], before the sigmoid
    pres: Array  # logits [1]
    pres_prior: Array  # probability [1]
    z_where: Array  # [4], before the sigmoid
    box: Array  # [4], (sx, sy, tx, ty)
    z_what: Array  # [D]
    z_depth: Array  # [1] in (0, 1), small is near
    z_pres: Array  # [1] in [0, 1]
    glimpse: Array  # [h, w, 3]


class Scene(NamedTuple):
    """The rendered cells."""

    image: Array  # [B, H, W, 3]
    shares: Array  # [B, H, W, 1], what the foreground and the background sum to as a mixture
    masks: Array  # [B, N, H, W], of the cells; may sum to more than 1
    patches: Array  # [B, N, H, W, 3]
    rgb: Array  # [B, N, h, w, 3]
    alpha: Array  # [B, N, h, w, 1], without presence


class BackgroundEncoder(nnx.Module):
    """Images `[B, H, W, 3]` to the posterior of the background's latent `[B, D]`.

    Args:
        channels: one convolution of stride 2 each; a mean over the map follows.
        hidden: width of a layer behind it.
        out_features: D.
    """

    def __init__(
        self, channels: Sequence[int], hidden: int, out_features: int, *, rngs: nnx.Rngs
    ) -> None:
        self.convolutions = nnx.List(
            Conv(i, o, 3, 2, rngs=rngs) for i, o in itertools.pairwise([3, *channels])
        )
        self.hidden = linear(channels[-1], hidden, rngs=rngs)
        self.out = linear(hidden, 2 * out_features, rngs=rngs)

    def __call__(self, x: Array) -> Normal:
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution(x))
        x = jax.nn.relu(self.hidden(jnp.mean(x, axis=(1, 2))))
        return Normal.of(self.out(x), STD_FLOOR)


class Model(nnx.Module):
    """A variational autoencoder of scenes with up to G^2 objects on a background.

    Args:
        image_size: H = W = G times the backbone's cells.
        backbone, backbone_channels, backbone_groups: see `CellEncoder`.
        feature_size, feature_groups: of what it tells about a cell, and of the last norm.
        anchor_size: largest side of an object's box, in pixels.
        size_prior: mean and deviation of both sides before their sigmoid: -2.197 is a tenth of the
            anchor.
        glimpse_size: pixels of a glimpse's side.
        what_size: D of an object's appearance.
        pass_size: features that box and depth hand on to the nets behind them.
        hidden_size: of box, depth and presence.
        encoder_hidden: widths of the net that encodes glimpses.
        decoder_channels: of the decoders of objects and background.
        background_size: latents of the background; 0 makes it black.
        background_channels, background_hidden: of its encoder.
        rendering: "average" of all cells, weighed by mask over depth, or "softmax" of depth times
            mask, where the larger depth is the nearer.

    Raises:
        ValueError: the cells do not fit the image, a kind is unknown, or a size or a deviation is
            not positive.
    """

    option_ranges: ClassVar = {
        "sigma": POSITIVE,
        "temperature": POSITIVE,
        "presence_prior": PROBABILITY,
        "present_only": (0.0, 1.0),
    }

    def __init__(
        self,
        *,
        image_size: int = 128,
        backbone: str = "large",
        backbone_channels: Sequence[int] = (16, 32, 64, 128, 256),
        backbone_groups: Sequence[int] = (4, 8, 8, 16, 32),
        feature_size: int = 100,
        feature_groups: int = 10,
        anchor_size: int = 48,
        size_prior: Sequence[float] = (-2.197, 0.5),
        glimpse_size: int = 24,
        what_size: int = 64,
        pass_size: int = 100,
        hidden_size: int = 100,
        encoder_hidden: Sequence[int] = (256, 128),
        decoder_channels: int = 32,
        background_size: int = 4,
        background_channels: Sequence[int] = (32, 32, 64, 64),
        background_hidden: int = 128,
        rendering: str = "average",
        rngs: nnx.Rngs,
    ) -> None:
        if anchor_size <= 0:
            raise ValueError(f"{anchor_size=} must be above 0.")
        if len(size_prior) != 2 or size_prior[1] <= 0:
            raise ValueError(f"{size_prior=} must be a mean and a deviation above 0.")
        if rendering not in RENDERINGS:
            raise ValueError(f"{rendering=} is unknown; it is one of {', '.join(RENDERINGS)}.")
        self.backbone = CellEncoder(
            backbone,
            backbone_channels,
            backbone_groups,
            feature_size,
            feature_groups,
            rngs=rngs,
        )
        cell = self.backbone.cell_size
        if image_size % cell:
            raise ValueError(f"{image_size=} is not divisible by the backbone's {cell} pixels.")
        self.image_size = image_size
        self.grid_size = image_size // cell
        self.anchor_size = anchor_size
        self.size_prior = tuple(size_prior)
        self.glimpse_size = glimpse_size
        self.what_size = what_size
        self.background_size = background_size
        self.rendering = rendering

        state = 1 + 4 + 1 + what_size  # presence, box, depth, appearance
        seen = feature_size + (NUM_NEIGHBORS + 1) * state
        deep = seen + 4 + what_size + pass_size
        hidden = (hidden_size, hidden_size)
        glimpse = 3 * glimpse_size**2
        self.nowhere = nnx.Param(jnp.zeros(state))
        self.where = PassingMLP(seen, hidden, 8, pass_size, rngs=rngs)
        self.what = PassingMLP(feature_size + 4 + glimpse, encoder_hidden, 2 * what_size, rngs=rngs)
        self.depth = PassingMLP(deep, hidden, 2, pass_size, rngs=rngs)
        self.pres = PassingMLP(deep + 1, hidden, 1, rngs=rngs)
        self.object_decoder = _decoder(what_size, decoder_channels, 4, rngs)
        if background_size:
            self.background_encoder = BackgroundEncoder(
                background_channels, background_hidden, background_size, rngs=rngs
            )
            self.background_decoder = _decoder(background_size, decoder_channels, 3, rngs)
        else:
            self.background_encoder = self.background_decoder = None

    def __call__(
        self,
        inputs: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        sigma: float | Array = 0.15,
        temperature: float | Array = 1.0,
        presence_prior: float | Array = 0.99,
        present_only: float | Array = 0.0,
    ) -> ModelOutput:
        """Images to the terms of the objective, and to what explains them.

        Args:
            inputs: images `[B, H, W, 3]` in [0, 1], H = W = `image_size`.
            key: draws the latents, also at evaluation.
            train: presence is relaxed; otherwise it is 0 or 1, with the gradient of the relaxed.
            trajectory: changes nothing; all models take it.
            sigma: standard deviation of a pixel around its reconstruction.
            temperature: of the relaxed presence.
            presence_prior: p of the geometric prior over the number of objects.
            present_only: the share, in [0, 1], of the divergences of box, appearance and depth
                that counts only where there is an object.

        Returns:
            terms, recon, masks and patches (the background first, then the cells row by row),
            slots (what is in the cells), presence and boxes.

        Raises:
            ValueError: images are of another size, or there is no key.
        """
        check_image_size(inputs, self.image_size)
        noise = Noise.of(key)
        cells = self.infer(
            inputs, noise, train=train, temperature=temperature, presence_prior=presence_prior
        )
        background, kl_bg = self.infer_background(inputs, noise)
        scene = self.render(cells, background)
        log_prob = normal_log_prob(inputs, scene.image, sigma) + jnp.log(scene.shares)
        present = 1 - present_only + present_only * cells.z_pres
        terms = {
            "nll": -total(log_prob),
            "kl_where": total(present * normal_kl(*cells.where, *self.where_prior)),
            "kl_what": total(present * normal_kl(*cells.what)),
            "kl_depth": total(present * normal_kl(*cells.depth)),
            "kl_pres": total(bernoulli_kl(cells.pres, logit(cells.pres_prior))),
            "kl_bg": kl_bg,
        }
        rest = 1 - jnp.sum(scene.masks, axis=1, keepdims=True)
        return ModelOutput(
            terms=terms,
            recon=scene.image,
            masks=jnp.concatenate([rest, scene.masks], axis=1),
            patches=jnp.concatenate([background[:, None], scene.patches], axis=1),
            slots=cells.z_what,
            presence=cells.z_pres[..., 0],
            boxes=corners(cells.box),
        )

    @property
    def where_prior(self) -> Normal:
        """The prior of a raw box (w, h, x, y): its size, and in the middle of its cell."""
        mean, std = self.size_prior
        return Normal(np.float32([mean, mean, 0, 0]), np.float32([std, std, 1, 1]))

    def infer(
        self,
        images: Array,
        noise: Noise,
        *,
        train: bool,
        temperature: float | Array,
        presence_prior: float | Array,
    ) -> Cells:
        """Images `[B, H, W, 3]` to draws of all cells, row by row (section "Inference network").

        A cell sees what was drawn in its neighbours before it, and its presence has a prior that
        knows how many objects there are already.
        """
        B, G = len(images), self.grid_size
        N = G**2
        features = self.backbone(images)

        def step(carry, inputs):
            grid, count, log_prior = carry
            i, eps_where, eps_what, eps_depth, noise_pres = inputs
            h, w = i // G, i % G
            base = features[:, h, w]
            context = self._context(grid, h, w)

            raw, passed = self.where(base, context)
            where = Normal.of(raw, STD_FLOOR)
            z_where = where.mean + where.std * eps_where
            local, box = to_box(z_where, jnp.stack([w, h]), self.anchor_size / self.image_size, G)
            glimpse = extract(images, box, (self.glimpse_size, self.glimpse_size))
            what = Normal.of(self.what(base, local, glimpse)[0], STD_FLOOR)
            z_what = what.mean + what.std * eps_what
            raw, passed = self.depth(base, context, local, z_what, passed)
            depth = Normal.of(raw, STD_FLOOR)
            z_depth = _bounded_sigmoid(depth.mean + depth.std * eps_depth)
            raw, _ = self.pres(base, context, local, z_what, z_depth, passed)
            pres = jnp.clip(raw, *LOGIT_RANGE)
            z_pres = jax.nn.sigmoid((pres + noise_pres) / temperature)
            hard = jax.lax.stop_gradient(jnp.round(z_pres))
            if not train:
                z_pres = z_pres + jax.lax.stop_gradient(hard - z_pres)

            pres_prior, log_prior = count_prior(log_prior, count, hard, N - i)
            state = jnp.concatenate([z_pres, z_where, z_depth, z_what], axis=-1)
            grid = jax.lax.dynamic_update_slice(grid, state[:, None, None], (0, h + 1, w + 1, 0))
            cell = Cells(
                where, what, depth, pres, pres_prior, z_where, box, z_what, z_depth, z_pres, glimpse
            )
            return (grid, count + hard, log_prior), cell

        # One cell wider to all sides where a neighbour may be.
        nowhere = jnp.broadcast_to(self.nowhere[...], (B, G + 1, G + 2, self.nowhere.shape[0]))
        carry = (nowhere, jnp.zeros((B, 1)), geometric_prior(presence_prior, B, N))
        inputs = (
            jnp.arange(N),
            noise.normal((N, B, 4)),
            noise.normal((N, B, self.what_size)),
            noise.normal((N, B, 1)),
            logistic_noise(noise.uniform((N, B, 1))),
        )
        _, cells = jax.lax.scan(step, carry, inputs)
        return jax.tree.map(lambda x: x.swapaxes(0, 1), cells)

    def _context(self, grid: Array, h: Array, w: Array) -> Array:
        """The states of the neighbours, and of one that is nowhere; `[B, 5, D]`.

        The code stacks several anchors in a cell; with one the last is always missing.
        """
        B, _, _, D = grid.shape
        above = jax.lax.dynamic_slice(grid, (0, h, w, 0), (B, 1, 3, D))[:, 0]
        left = jax.lax.dynamic_slice(grid, (0, h + 1, w, 0), (B, 1, 1, D))[:, 0]
        nowhere = jnp.broadcast_to(self.nowhere[...], (B, 1, D))
        return jnp.concatenate([above, left, nowhere], axis=1)

    def infer_background(self, images: Array, noise: Noise) -> tuple[Array, Array]:
        """The background `[B, H, W, 3]` and its divergence `[B]`."""
        if self.background_encoder is None:
            return jnp.zeros_like(images), jnp.zeros(len(images))
        q = self.background_encoder(images)
        z = normal_sample(*q, noise)
        picture = jax.nn.sigmoid(self.background_decoder(z[:, None], *images.shape[1:3]))
        return picture[:, 0], total(normal_kl(*q, *BACKGROUND_PRIOR))

    def render(self, cells: Cells, background: Array) -> Scene:
        """Cells on their background `[B, H, W, 3]`."""
        size = self.glimpse_size
        glimpses = jax.nn.sigmoid(self.object_decoder(cells.z_what, size, size))
        canvases = place(glimpses, cells.box, background.shape[1:3])  # [B, N, H, W, 4]
        pres, depth = (z[..., None, None] for z in (cells.z_pres, cells.z_depth))
        patches, masks = canvases[..., :3], canvases[..., 3:] * pres
        if self.rendering == "average":
            image = average(patches, masks, depth, background[:, None])
            shares = jnp.ones_like(image[..., :1])
        else:
            image, alpha = nearest(patches, masks, depth, background[:, None])
            # Both parts of the mixture are the same image; only their clipped weights tell.
            shares = jnp.maximum(alpha, 1e-6) + jnp.maximum(1 - alpha, 1e-6)
        return Scene(image, shares, masks[..., 0], patches, glimpses[..., :3], glimpses[..., 3:])


def to_box(z_where: Array, cell: Array, anchor: float, grid_size: int) -> tuple[Array, Array]:
    """Boxes before their sigmoid to boxes.

    Args:
        z_where: (w, h, x, y), `[B, 4]`.
        cell: (column, row), `[2]`.
        anchor: largest side of a box, as a share of the image's.
        grid_size: G.

    Returns:
        The boxes in units of their anchor and cell, and as (sx, sy, tx, ty), each `[B, 4]`.
    """
    local = BOX_LOW + (BOX_HIGH - BOX_LOW) * _bounded_sigmoid(z_where)
    center = 2 / grid_size * (local[:, 2:] + cell) - 1
    return local, jnp.concatenate([anchor * local[:, :2], center], axis=-1)


def average(patches: Array, masks: Array, depth: Array, background: Array) -> Array:
    """The image `[B, H, W, 3]` as an average over cells, each on the background.

    Every cell has a say in every pixel; a mask has more of it the nearer it is.

    Args:
        patches: `[B, N, H, W, 3]`.
        masks: `[B, N, H, W, 1]`.
        depth: `[B, N, 1, 1, 1]`.
        background: `[B, 1, H, W, 3]`.
    """
    importance = jnp.maximum(masks / depth, MIN_IMPORTANCE)
    layers = patches * masks + background * (1 - masks)
    return jnp.sum(importance * layers, axis=1) / jnp.sum(importance, axis=1)


def nearest(patches: Array, masks: Array, depth: Array, background: Array) -> tuple[Array, Array]:
    """The image `[B, H, W, 3]` of the nearest cells, and their share `[B, H, W, 1]`.

    Here the larger depth is the nearer, and the mask counts twice, as in the published code.
    Arguments as in `average`.
    """
    weights = jax.nn.softmax(IMPORTANCE * depth * masks, axis=1)
    alpha = jnp.sum(weights * masks, axis=1)
    image = alpha * jnp.sum(weights * masks * patches, axis=1) + (1 - alpha) * background[:, 0]
    return image, alpha


def _decoder(
    in_features: int, channels: int, out_features: int, rngs: nnx.Rngs
) -> ValidBroadcastDecoder:
    return ValidBroadcastDecoder(
        in_features,
        channels,
        out_features,
        position="append",
        activation=jax.nn.relu,
        rngs=rngs,
    )


def _bounded_sigmoid(raw: Array) -> Array:
    return jax.nn.sigmoid(jnp.clip(raw, -MAX_RAW, MAX_RAW))
