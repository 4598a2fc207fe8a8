"""SPACE (arXiv 2001.02407): objects in the cells of a grid, on a background of K components.

As in Lin et al.'s code at 128 x 128 pixels, which the ClevrTex benchmark took over.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import logit

from akorn_jax.layers.component_background import LOG_EPS, ComponentBackground, log_shares, mix
from akorn_jax.layers.distributions import (
    POSITIVE,
    PROBABILITY,
    Normal,
    bernoulli_kl,
    mixture_log_prob,
    normal_kl,
    normal_log_prob,
    normal_sample,
    relaxed_bernoulli,
    total,
)
from akorn_jax.layers.image_size import check_image_size
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.spatial_transformer import corners, extract, grid_centers, place, placement
from akorn_jax.layers.subpixel import Conv, ConvBlock, decoder
from akorn_jax.outputs import ModelOutput

Array = jax.Array

GLIMPSE = 32  # pixels of a glimpse's side, from one pixel by five doublings
MAX_LOGIT = 8.8  # of presence: probabilities stay 1.5e-4 away from 0 and 1
STD_FLOOR = 1e-15  # of the deviations of all latents
PLACE_EPS = 1e-9
IMPORTANCE = 100.0  # of the nearest, surest object
# The frame inside a box where objects should end, and how strongly they are told.
FRAME_WIDTH, FRAME_WEIGHT, FRAME_STD = 6 / GLIMPSE, 1000 / GLIMPSE**2, 0.7


class Cells(NamedTuple):
    """The posterior of N = G^2 cells, row by row."""

    pres: Array  # logits [B, N, 1]
    depth: Normal  # [B, N, 1], small is near
    scale: Normal  # [B, N, 2], before the sigmoid
    shift: Normal  # [B, N, 2], before tanh


class Objects(NamedTuple):
    """The latents of the N cells and what they look like."""

    cells: Cells
    what: Normal  # [B, N, D]
    z_pres: Array  # [B, N, 1] in (0, 1)
    z_depth: Array  # [B, N, 1]
    z_what: Array  # [B, N, D]
    where: Array  # [B, N, 4], boxes
    rgb: Array  # [B, N, h, w, 3]
    alpha: Array  # [B, N, h, w, 1], without presence


class Scene(NamedTuple):
    """The placed objects."""

    image: Array  # [B, H, W, 3]
    alpha: Array  # [B, H, W, 1], the foreground's share
    masks: Array  # [B, N, H, W], of the cells; may sum to more than 1
    weights: Array  # [B, N, H, W], sum to 1 over N


class Foreground(nnx.Module):
    """Infers an object in each cell of a grid, and places it (sections 2.1, 2.3).

    Args:
        image_size: H = W.
        grid_size: G; image_size / G is 8, 16 or 32.
        channels, groups: of the narrowest convolutions and of their norms; others have multiples.
        what_size: D of an object's appearance.
        glimpse_size: pixels of a glimpse's side, 32 or 16.
    """

    def __init__(
        self,
        image_size: int,
        grid_size: int,
        channels: int,
        groups: int,
        what_size: int,
        glimpse_size: int,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        last_strides = {8: (1, 1), 16: (1, 2), 32: (2, 2)}
        cell = image_size / grid_size
        if cell not in last_strides:
            raise ValueError(
                f"{grid_size=} makes cells of {cell:g} pixels in an image of {image_size}; cells "
                "have 8, 16 or 32."
            )
        if glimpse_size not in (16, 32):
            raise ValueError(f"{glimpse_size=}: glimpses have 16 or 32 pixels a side.")
        a, b = last_strides[cell]
        c, g = channels, groups
        self.glimpse_size = glimpse_size
        self.grid_size = grid_size

        def block(in_features: int, features: int, *args: int, norm: int) -> ConvBlock:
            return ConvBlock(in_features * c, features * c, *args, groups=norm * g, rngs=rngs)

        self.encoder = nnx.Sequential(
            ConvBlock(3, c, 4, 2, groups=g, rngs=rngs),
            block(1, 2, 4, 2, norm=2),
            block(2, 4, 4, 2, norm=2),
            block(4, 8, 3, a, norm=4),
            block(8, 16, 3, b, norm=8),
            block(16, 8, 1, norm=4),
        )
        self.lateral = nnx.Sequential(block(8, 8, 3, norm=4), block(8, 8, 3, norm=4))
        self.fuse = block(16, 8, 3, norm=4)
        self.scale, self.shift, self.pres, self.depth = (
            linear(8 * c, n, rngs=rngs) for n in (4, 4, 1, 2)
        )
        self.glimpse_encoder = nnx.Sequential(
            ConvBlock(3, c, 3, groups=g, rngs=rngs),
            block(1, 2, 4, 2, norm=2),
            block(2, 2, 3, norm=1),
            block(2, 4, 4, 2, norm=2),
            block(4, 8, *((4, 2) if glimpse_size == 32 else (3, 1)), norm=2),
            block(8, 16, 4, 1, 0, norm=4),
        )
        self.what = linear(16 * c, 2 * what_size, rngs=rngs)
        widths = ((8, 4), (8, 4), (4, 2), (2, 2), (1, 1))
        upscales = (glimpse_size // 16, 2, 2, 2, 2)
        stages = [(c * w, g * norm, r) for (w, norm), r in zip(widths, upscales, strict=True)]
        self.glimpse_decoder = decoder(what_size, 16 * c, 4 * g, stages, rngs)
        self.rgb = Conv(c, 3, 3, rngs=rngs)
        self.alpha = Conv(c, 1, 3, rngs=rngs)

    def infer(self, images: Array, temperature: float | Array, noise: Noise) -> Objects:
        """Images `[B, H, W, 3]` to a draw of the objects."""
        q = self._cells(images)
        z_pres = relaxed_bernoulli(q.pres, temperature, noise)
        z_depth = normal_sample(*q.depth, noise)
        scale = jax.nn.sigmoid(normal_sample(*q.scale, noise))
        # A centre stays within one cell's width of its cell's centre.
        shift = 2 / self.grid_size * jnp.tanh(normal_sample(*q.shift, noise))
        where = jnp.concatenate([scale, grid_centers(self.grid_size) + shift], axis=-1)

        B, N, _ = where.shape
        size = (self.glimpse_size, self.glimpse_size)
        glimpses = extract(images[:, None], where, size)
        x = self.glimpse_encoder(glimpses.reshape(B * N, *size, 3))
        what = Normal.of(self.what(x.reshape(B, N, -1)), STD_FLOOR)
        z_what = normal_sample(*what, noise)
        x = self.glimpse_decoder(z_what.reshape(B * N, 1, 1, -1))
        rgb, alpha = (
            jax.nn.sigmoid(head(x)).reshape(B, N, *size, -1) for head in (self.rgb, self.alpha)
        )
        return Objects(q, what, z_pres, z_depth, z_what, where, rgb, alpha)

    def _cells(self, images: Array) -> Cells:
        x = self.encoder(images)
        x = self.fuse(jnp.concatenate([x, self.lateral(x)], axis=-1))
        x = x.reshape(len(x), -1, x.shape[-1])  # [B, N, C]
        return Cells(
            pres=MAX_LOGIT * jnp.tanh(self.pres(x)),
            depth=Normal.of(self.depth(x), STD_FLOOR),
            scale=Normal.of(self.scale(x), STD_FLOOR),
            shift=Normal.of(self.shift(x), STD_FLOOR),
        )


class Model(nnx.Module):
    """A variational autoencoder of scenes with up to G^2 objects on a background.

    Args:
        image_size: H = W, a multiple of 32.
        grid_size: G; image_size / G is 8, 16 or 32.
        num_components: K of the background, at least 2.
        channels, groups: of the narrowest convolutions and of their group norms; all others have
            multiples of them.
        what_size: latents of an object's appearance.
        glimpse_size: pixels of a glimpse's side, 32 or 16.
        mask_size, component_size: latents of a background component's mask and of its appearance.
        feature_size, hidden_size, mlp_size: of the background's encoded image, LSTMs and prior.
        foreground_std, background_std: of a pixel around its reconstruction.
        scale_prior_std: of a box's scale, before its sigmoid, around `scale_prior` of the call.

    Raises:
        ValueError: the grid does not fit the image, K < 2, or a deviation is not positive.
    """

    option_ranges: ClassVar = {
        "temperature": POSITIVE,
        "presence_prior": PROBABILITY,
        "fixed_alpha": (0.0, 1.0),
    }

    def __init__(
        self,
        *,
        image_size: int = 128,
        grid_size: int = 8,
        num_components: int = 5,
        channels: int = 16,
        groups: int = 4,
        what_size: int = 32,
        glimpse_size: int = GLIMPSE,
        mask_size: int = 32,
        component_size: int = 32,
        feature_size: int = 64,
        hidden_size: int = 64,
        mlp_size: int = 64,
        foreground_std: float = 0.15,
        background_std: float = 0.15,
        scale_prior_std: float = 0.1,
        rngs: nnx.Rngs,
    ) -> None:
        if min(foreground_std, background_std, scale_prior_std) <= 0:
            raise ValueError(
                f"{foreground_std=}, {background_std=} and {scale_prior_std=} must be above 0."
            )
        self.image_size = image_size
        self.foreground_std = foreground_std
        self.background_std = background_std
        self.scale_prior_std = scale_prior_std
        self.foreground = Foreground(
            image_size, grid_size, channels, groups, what_size, glimpse_size, rngs=rngs
        )
        self.background = ComponentBackground(
            image_size,
            num_components,
            channels,
            groups,
            mask_size=mask_size,
            component_size=component_size,
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_size=mlp_size,
            rngs=rngs,
        )

    def __call__(
        self,
        inputs: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        temperature: float | Array = 2.5,
        presence_prior: float | Array = 0.01,
        scale_prior: float | Array = -2.0,
        fixed_alpha: float | Array = 0.0,
    ) -> ModelOutput:
        """Images to the terms of the objective, and to what explains them.

        Args:
            inputs: images `[B, H, W, 3]` in [0, 1], H = W = `image_size`.
            key: draws the latents, also at evaluation.
            train: use and record the statistics of this batch, see `BatchNorm`.
            trajectory: changes nothing; all models take it.
            temperature: of the relaxed presence.
            presence_prior: probability of an object in a cell.
            scale_prior: mean of a box's scale before its sigmoid: -2 is 12 % of the image.
            fixed_alpha: the foreground's share of every pixel's likelihood, whatever the cells say;
                0 leaves it to them. The authors' code fixes it while a training begins, so that
                figure and ground learn what they look like before they compete.

        Returns:
            terms, recon, masks and patches (the whole background first, then the cells row by
            row), slots (what is in the cells), presence and boxes.

        Raises:
            ValueError: images are of another size, or there is no key.
        """
        check_image_size(inputs, self.image_size)
        noise = Noise.of(key)
        components = self.background.infer(inputs, noise, train=train)
        objects = self.foreground.infer(inputs, temperature, noise)
        scene = compose(objects, self.image_size)

        background = mix(components.log_masks, components.images)
        shares = log_shares(components.log_masks)
        background_log_prob = mixture_log_prob(
            inputs[:, None], shares, components.images, self.background_std
        )
        foreground_log_prob = normal_log_prob(inputs, scene.image, self.foreground_std)
        alpha = jnp.where(jnp.asarray(fixed_alpha) > 0, fixed_alpha, scene.alpha)
        log_prob = jnp.logaddexp(
            foreground_log_prob + jnp.log(alpha + LOG_EPS),
            background_log_prob + jnp.log(1 - alpha + LOG_EPS),
        )
        frames = FRAME_WEIGHT * draw_frames(
            objects.where, objects.z_pres, self.image_size, self.foreground.glimpse_size
        )
        q = objects.cells
        terms = {
            "nll": -total(log_prob),
            "kl_pres": total(bernoulli_kl(q.pres, logit(jnp.float32(presence_prior)))),
            "kl_depth": total(normal_kl(*q.depth)),
            "kl_scale": total(normal_kl(*q.scale, scale_prior, self.scale_prior_std)),
            "kl_shift": total(normal_kl(*q.shift)),
            "kl_what": total(normal_kl(*objects.what)),
            "kl_bg_mask": jnp.sum(normal_kl(*components.mask, *components.mask_prior), axis=(0, 2)),
            "kl_bg_comp": total(normal_kl(*components.comp, *components.comp_prior)),
            "boundary": -total(normal_log_prob(frames * scene.alpha[..., 0], 0.0, FRAME_STD)),
        }
        rest = 1 - jnp.sum(scene.masks, axis=1, keepdims=True)
        size = (self.image_size, self.image_size)
        patches = place(objects.rgb, objects.where, size, eps=PLACE_EPS)
        return ModelOutput(
            terms=terms,
            recon=scene.alpha * scene.image + (1 - scene.alpha) * background,
            masks=jnp.concatenate([rest, scene.masks], axis=1),
            patches=jnp.concatenate([background[:, None], patches], axis=1),
            slots=objects.z_what,
            presence=objects.z_pres[..., 0],
            boxes=corners(objects.where),
        )

    def sample(self, num_images: int, *, key: Array | Noise) -> Array:
        """Backgrounds of the prior, `[num_images, H, W, 3]`.

        The cells' prior does not make scenes: it is independent in all cells.
        """
        return mix(*self.background.sample(num_images, Noise.of(key)))


def compose(objects: Objects, image_size: int) -> Scene:
    """Each pixel of the foreground mixes all cells, near objects before far ones (section 2.1)."""
    pres, depth = (z[..., None, None] for z in (objects.z_pres, objects.z_depth))
    alpha = objects.alpha * pres
    importance = alpha * IMPORTANCE * jax.nn.sigmoid(-depth)
    layers = jnp.concatenate([alpha * objects.rgb, alpha, importance], axis=-1)

    # The canvases of all cells are by far the largest arrays: the backward pass makes them again.
    @jax.checkpoint
    def render(layers: Array, where: Array) -> Scene:
        canvases = place(layers, where, (image_size, image_size), eps=PLACE_EPS)
        y, alpha, importance = canvases[..., :3], canvases[..., 3], canvases[..., 4]
        # A cell that does not reach a pixel takes part there too, with importance 0.
        weights = jax.nn.softmax(importance, axis=1)
        return Scene(
            image=jnp.einsum("bnij,bnijc->bijc", weights, y),
            alpha=jnp.sum(weights * alpha, axis=1)[..., None],
            masks=alpha,
            weights=weights,
        )

    return render(layers, objects.where)


def draw_frames(where: Array, presence: Array, image_size: int, glimpse_size: int) -> Array:
    """The frames inside all boxes, times presence, summed: `[B, H, W]`.

    A frame is a full square without its inner one, hence two products of a column and a row: no
    canvas per cell.

    Args:
        where: boxes `[B, N, 4]`.
        presence: `[B, N, 1]`.
        image_size: H = W.
        glimpse_size: pixels of a glimpse's side.
    """
    size = (glimpse_size, glimpse_size)
    weights = placement(where, size, (image_size, image_size), eps=PLACE_EPS)
    width = round(FRAME_WIDTH * glimpse_size)
    inner = slice(width, glimpse_size - width)

    def squares(part: slice) -> Array:
        rows, columns = (jnp.sum(w[..., part], axis=-1) for w in weights)  # [B, N, H]
        return jnp.einsum("bni,bnj->bij", presence * rows, columns)

    return squares(slice(None)) - squares(inner)
