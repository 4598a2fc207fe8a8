"""SPACE (arXiv 2001.02407): objects in the cells of a grid, on a background of K components.

As in Lin et al.'s code at 128 x 128 pixels, which the ClevrTex benchmark took over.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.scipy.special import logit

from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.distributions import (
    Normal,
    bernoulli_kl,
    mixture_log_prob,
    normal_kl,
    normal_log_prob,
    normal_sample,
    relaxed_bernoulli,
)
from akorn_jax.layers.linear import linear
from akorn_jax.layers.lstm import LSTM
from akorn_jax.layers.masks import stick_breaking
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.spatial_transformer import corners, extract, grid_centers, place, placement
from akorn_jax.layers.subpixel import Conv, ConvBlock
from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder
from akorn_jax.outputs import ModelOutput

Array = jax.Array

GLIMPSE = 32  # pixels a side, from one pixel by five doublings
MAX_LOGIT = 8.8  # of presence: probabilities stay 1.5e-4 away from 0 and 1
SCALE_PRIOR_STD = 0.1  # of a box's scale, before its sigmoid
CELL_FLOOR, BACKGROUND_FLOOR = 1e-15, 1e-4  # of the deviations of their latents
PLACE_EPS = 1e-9
LOG_EPS = 1e-5  # added to masks before their logarithm
IMPORTANCE = 100.0  # of the nearest, surest object
# The frame inside a box where objects should end, and how strongly they are told.
FRAME_WIDTH, FRAME_WEIGHT, FRAME_STD = 6, 1000 / GLIMPSE**2, 0.7


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


class Components(NamedTuple):
    """The latents of the K background components and what they look like."""

    mask: Normal  # [K, B, D]
    mask_prior: Normal
    comp: Normal  # [B, K, D]
    comp_prior: Normal
    log_masks: Array  # [B, K, H, W], normalised over K
    images: Array  # [B, K, H, W, 3]


class Foreground(nnx.Module):
    """Infers an object in each cell of a grid, and places it (sections 2.1, 2.3).

    Args:
        image_size: H = W.
        grid_size: G; image_size / G is 8, 16 or 32.
        channels, groups: of the narrowest convolutions and of their norms; others have multiples.
        what_size: D of an object's appearance.
    """

    def __init__(
        self,
        image_size: int,
        grid_size: int,
        channels: int,
        groups: int,
        what_size: int,
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
        a, b = last_strides[cell]
        c, g = channels, groups
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
            block(4, 8, 4, 2, norm=2),
            block(8, 16, 4, 1, 0, norm=4),
        )
        self.what = linear(16 * c, 2 * what_size, rngs=rngs)
        widths = ((8, 4), (8, 4), (4, 2), (2, 2), (1, 1))
        stages = [(c * width, g * norm, 2) for width, norm in widths]
        self.glimpse_decoder = _decoder(what_size, 16 * c, 4 * g, stages, rngs)
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
        glimpses = extract(images[:, None], where, (GLIMPSE, GLIMPSE))
        x = self.glimpse_encoder(glimpses.reshape(B * N, GLIMPSE, GLIMPSE, 3))
        what = Normal.of(self.what(x.reshape(B, N, -1)), CELL_FLOOR)
        z_what = normal_sample(*what, noise)
        x = self.glimpse_decoder(z_what.reshape(B * N, 1, 1, -1))
        rgb, alpha = (
            jax.nn.sigmoid(head(x)).reshape(B, N, GLIMPSE, GLIMPSE, -1)
            for head in (self.rgb, self.alpha)
        )
        return Objects(q, what, z_pres, z_depth, z_what, where, rgb, alpha)

    def _cells(self, images: Array) -> Cells:
        x = self.encoder(images)
        x = self.fuse(jnp.concatenate([x, self.lateral(x)], axis=-1))
        x = x.reshape(len(x), -1, x.shape[-1])  # [B, N, C]
        return Cells(
            pres=MAX_LOGIT * jnp.tanh(self.pres(x)),
            depth=Normal.of(self.depth(x), CELL_FLOOR),
            scale=Normal.of(self.scale(x), CELL_FLOOR),
            shift=Normal.of(self.shift(x), CELL_FLOOR),
        )


class Background(nnx.Module):
    """Infers K components and their masks, one after another (section 2.2; GENESIS).

    Args:
        image_size: H = W, a multiple of 32.
        num_components: K.
        channels, groups: see `Foreground`.
        mask_size, component_size: latents of a mask and of a component.
        feature_size: of the encoded image that the masks are inferred from.
        hidden_size: of the LSTMs.
        mlp_size: hidden width of the components' prior.
    """

    def __init__(
        self,
        image_size: int,
        num_components: int,
        channels: int,
        groups: int,
        *,
        mask_size: int,
        component_size: int,
        feature_size: int,
        hidden_size: int,
        mlp_size: int,
        rngs: nnx.Rngs,
    ) -> None:
        if image_size % 32:
            raise ValueError(f"{image_size=} is not divisible by 32, as the masks' decoder needs.")
        if num_components < 2:
            raise ValueError(f"{num_components=}: a background of 1 component has no masks; use 2.")
        c, g = channels, groups
        self.num_components = num_components
        self.image_size = image_size
        self.mask_size = mask_size
        self.encoder = ConvEncoder(image_size, 3, [4 * c] * 4, feature_size, rngs=rngs)
        self.z_0 = nnx.Param(jnp.zeros(mask_size))
        self.lstm = LSTM(mask_size + feature_size, hidden_size, rngs=rngs)
        self.prior_lstm = LSTM(mask_size, hidden_size, rngs=rngs)
        self.h_0, self.c_0, self.prior_h_0, self.prior_c_0 = (
            nnx.Param(jnp.zeros(hidden_size)) for _ in range(4)
        )
        self.mask = linear(hidden_size, 2 * mask_size, rngs=rngs)
        self.prior_mask = linear(hidden_size, 2 * mask_size, rngs=rngs)
        # 1 -> 4 -> 8 -> 32 -> image_size pixels.
        stages = [(16 * c, 4 * g, 4), (8 * c, 4 * g, 2), (4 * c, 2 * g, 4)]
        stages += [(c, g, image_size // 32)]
        self.mask_decoder = _decoder(mask_size, 16 * c, 4 * g, stages, rngs)
        self.mask_block = ConvBlock(c, c, 3, groups=g, rngs=rngs)
        self.mask_out = Conv(c, 1, 3, rngs=rngs)
        widths = [2 * c, 2 * c, 4 * c, 4 * c]
        self.component_encoder = ConvEncoder(image_size, 4, widths, 2 * component_size, rngs=rngs)
        self.component_decoder = ValidBroadcastDecoder(
            component_size,
            2 * c,
            3,
            position="append",
            activation=jax.nn.elu,
            batch_norm=True,
            rngs=rngs,
        )
        widths = [mask_size, mlp_size, mlp_size, 2 * component_size]
        self.prior_component = nnx.List(
            linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths)
        )

    def infer(self, images: Array, noise: Noise, *, train: bool) -> Components:
        """Images `[B, H, W, 3]` to a draw of the components; see `BatchNorm` for `train`."""
        B, H, W, _ = images.shape
        K = self.num_components
        features = jax.nn.elu(self.encoder(images, train=train))

        def step(carry, eps):
            z, state, prior_state = carry
            p = Normal.of(self.prior_mask(prior_state[0]), BACKGROUND_FLOOR)
            state = self.lstm(jnp.concatenate([z, features], axis=-1), state)
            q = Normal.of(self.mask(state[0]), BACKGROUND_FLOOR)
            z = q.mean + q.std * eps
            return (z, state, self.prior_lstm(z, prior_state)), (z, q, p)

        carry = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (B, x.size)),
            (self.z_0[...], (self.h_0[...], self.c_0[...]), self._prior_state()),
        )
        eps = noise.normal((K, B, self.mask_size))
        _, (z_masks, q_mask, p_mask) = jax.lax.scan(step, carry, eps)
        log_masks = self._log_masks(z_masks)

        shares = jnp.log(jnp.exp(log_masks) + LOG_EPS)[..., None]  # [B, K, H, W, 1]
        seen = jnp.broadcast_to(images[:, None], (B, K, H, W, 3))
        x = jnp.concatenate([shares, seen], axis=-1).reshape(B * K, H, W, 4)
        q_comp = Normal.of(
            self.component_encoder(x, train=train).reshape(B, K, -1), BACKGROUND_FLOOR
        )
        p_comp = self._component_prior(z_masks)
        pictures = self._draw(normal_sample(*q_comp, noise), train=train)
        return Components(q_mask, p_mask, q_comp, p_comp, log_masks, pictures)

    def sample(self, num_images: int, noise: Noise) -> tuple[Array, Array]:
        """Draws of the prior: log masks `[N, K, H, W]` and images `[N, K, H, W, 3]`."""

        def step(state, eps):
            p = Normal.of(self.prior_mask(state[0]), BACKGROUND_FLOOR)
            z = p.mean + p.std * eps
            return self.prior_lstm(z, state), z

        state = tuple(jnp.broadcast_to(x, (num_images, x.size)) for x in self._prior_state())
        eps = noise.normal((self.num_components, num_images, self.mask_size))
        _, z_masks = jax.lax.scan(step, state, eps)
        z_comps = normal_sample(*self._component_prior(z_masks), noise)
        return self._log_masks(z_masks), self._draw(z_comps, train=False)

    def _prior_state(self) -> tuple[Array, Array]:
        return self.prior_h_0[...], self.prior_c_0[...]

    def _log_masks(self, z: Array) -> Array:
        """z `[K, B, D]` to `[B, K, H, W]`; the last mask, the rest, is not decoded."""
        K, B, D = z.shape
        x = self.mask_decoder(z[:-1].swapaxes(0, 1).reshape(B * (K - 1), 1, 1, D))
        logits = self.mask_out(self.mask_block(x))
        return stick_breaking(logits.reshape(B, K - 1, *logits.shape[1:3]))

    def _component_prior(self, z: Array) -> Normal:
        """p(component | mask): z `[K, B, D]` to distributions `[B, K, ...]`."""
        x = z.swapaxes(0, 1)
        for layer in self.prior_component[:-1]:
            x = jax.nn.elu(layer(x))
        return Normal.of(self.prior_component[-1](x), BACKGROUND_FLOOR)

    def _draw(self, z: Array, *, train: bool) -> Array:
        """z `[B, K, D]` to images `[B, K, H, W, 3]`."""
        size = self.image_size
        return jax.nn.sigmoid(self.component_decoder(z, size, size, train=train))


class Model(nnx.Module):
    """A variational autoencoder of scenes with up to G^2 objects on a background.

    Args:
        image_size: H = W, a multiple of 32.
        grid_size: G; image_size / G is 8, 16 or 32.
        num_components: K of the background, at least 2.
        channels, groups: of the narrowest convolutions and of their group norms; all others have
            multiples of them.
        what_size: latents of an object's appearance.
        mask_size, component_size: latents of a background component's mask and of its appearance.
        feature_size, hidden_size, mlp_size: of the background's encoded image, LSTMs and prior.
        foreground_std, background_std: of a pixel around its reconstruction.

    Raises:
        ValueError: the grid does not fit the image, or K < 2.
    """

    def __init__(
        self,
        *,
        image_size: int = 128,
        grid_size: int = 8,
        num_components: int = 5,
        channels: int = 16,
        groups: int = 4,
        what_size: int = 32,
        mask_size: int = 32,
        component_size: int = 32,
        feature_size: int = 64,
        hidden_size: int = 64,
        mlp_size: int = 64,
        foreground_std: float = 0.15,
        background_std: float = 0.15,
        rngs: nnx.Rngs,
    ) -> None:
        self.image_size = image_size
        self.foreground_std = foreground_std
        self.background_std = background_std
        self.foreground = Foreground(image_size, grid_size, channels, groups, what_size, rngs=rngs)
        self.background = Background(
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

        Returns:
            terms, recon, masks and patches (the whole background first, then the cells row by
            row), slots (what is in the cells), presence and boxes.

        Raises:
            ValueError: images are of another size, or there is no key.
        """
        if inputs.shape[1:] != (self.image_size, self.image_size, 3):
            raise ValueError(
                f"images have shape {inputs.shape}; the model takes [B, {self.image_size}, "
                f"{self.image_size}, 3]: set config.model.image_size to what the data has."
            )
        noise = Noise.of(key)
        components = self.background.infer(inputs, noise, train=train)
        objects = self.foreground.infer(inputs, temperature, noise)
        scene = compose(objects, self.image_size)

        background = mix(components.log_masks, components.images)
        shares = jnp.log(jnp.exp(components.log_masks) + LOG_EPS)[..., None]
        background_log_prob = mixture_log_prob(
            inputs[:, None], shares, components.images, self.background_std
        )
        foreground_log_prob = normal_log_prob(inputs, scene.image, self.foreground_std)
        log_prob = jnp.logaddexp(
            foreground_log_prob + jnp.log(scene.alpha + LOG_EPS),
            background_log_prob + jnp.log(1 - scene.alpha + LOG_EPS),
        )
        frames = FRAME_WEIGHT * draw_frames(objects.where, objects.z_pres, self.image_size)
        q = objects.cells
        terms = {
            "nll": -_total(log_prob),
            "kl_pres": _total(bernoulli_kl(q.pres, logit(jnp.float32(presence_prior)))),
            "kl_depth": _total(normal_kl(*q.depth)),
            "kl_scale": _total(normal_kl(*q.scale, scale_prior, SCALE_PRIOR_STD)),
            "kl_shift": _total(normal_kl(*q.shift)),
            "kl_what": _total(normal_kl(*objects.what)),
            "kl_bg_mask": jnp.sum(normal_kl(*components.mask, *components.mask_prior), axis=(0, 2)),
            "kl_bg_comp": _total(normal_kl(*components.comp, *components.comp_prior)),
            "boundary": -_total(normal_log_prob(frames * scene.alpha[..., 0], 0.0, FRAME_STD)),
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


class ConvEncoder(nnx.Module):
    """Images `[B, H, W, C]` to vectors `[B, D]`: convolutions that halve, batch norm, ELU, a map.

    Args:
        image_size: H = W.
        in_features: C.
        channels: one convolution of stride 2 each.
        out_features: D.
    """

    def __init__(
        self,
        image_size: int,
        in_features: int,
        channels: Sequence[int],
        out_features: int,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        widths = [in_features, *channels]
        size = image_size // 2 ** len(channels)
        self.convolutions = nnx.List(
            Conv(i, o, 3, 2, rngs=rngs) for i, o in itertools.pairwise(widths)
        )
        self.norms = nnx.List(BatchNorm(n) for n in channels)
        self.out = linear(size**2 * channels[-1], out_features, rngs=rngs)

    def __call__(self, x: Array, *, train: bool) -> Array:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = jax.nn.elu(norm(convolution(x), train=train))
        return self.out(x.reshape(len(x), -1))


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


def draw_frames(where: Array, presence: Array, image_size: int) -> Array:
    """The frames inside all boxes, times presence, summed: `[B, H, W]`.

    A frame is a full square without its inner one, hence two products of a column and a row: no
    canvas per cell.

    Args:
        where: boxes `[B, N, 4]`.
        presence: `[B, N, 1]`.
        image_size: H = W.
    """
    weights = placement(where, (GLIMPSE, GLIMPSE), (image_size, image_size), eps=PLACE_EPS)
    inner = slice(FRAME_WIDTH, GLIMPSE - FRAME_WIDTH)

    def squares(part: slice) -> Array:
        rows, columns = (jnp.sum(w[..., part], axis=-1) for w in weights)  # [B, N, H]
        return jnp.einsum("bni,bnj->bij", presence * rows, columns)

    return squares(slice(None)) - squares(inner)


def mix(log_masks: Array, images: Array) -> Array:
    """The image of components: log masks `[B, K, H, W]`, images `[B, K, H, W, 3]`."""
    return jnp.sum(jnp.exp(log_masks)[..., None] * images, axis=1)


def _decoder(
    in_features: int,
    features: int,
    groups: int,
    stages: Sequence[tuple[int, int, int]],
    rngs: nnx.Rngs,
) -> nnx.Sequential:
    """From one pixel: stages of a sub-pixel and a plain convolution (channels, groups, upscale)."""
    blocks = [ConvBlock(in_features, features, 1, groups=groups, rngs=rngs)]
    for channels, groups, upscale in stages:
        blocks += [
            ConvBlock(features, channels, 1, upscale=upscale, groups=groups, rngs=rngs),
            ConvBlock(channels, channels, 3, groups=groups, rngs=rngs),
        ]
        features = channels
    return nnx.Sequential(*blocks)


def _total(x: Array) -> Array:
    """Sums all but the first axis: one number per image."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
