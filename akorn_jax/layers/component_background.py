"""A background of K components and their masks, one after another, as SPACE and GENESIS have it."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.batch_norm import BatchNorm
from akorn_jax.layers.distributions import Normal, normal_sample
from akorn_jax.layers.elu import elu
from akorn_jax.layers.linear import linear
from akorn_jax.layers.lstm import LSTM
from akorn_jax.layers.masks import stick_breaking
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.subpixel import Conv, ConvBlock, decoder
from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder

Array = jax.Array

STD_FLOOR = 1e-4  # of the deviations of all latents
LOG_EPS = 1e-5  # added to masks before their logarithm


class Components(NamedTuple):
    """The latents of the K background components and what they look like."""

    mask: Normal  # [K, B, D]
    mask_prior: Normal
    comp: Normal  # [B, K, D]
    comp_prior: Normal
    log_masks: Array  # [B, K, H, W], normalised over K
    images: Array  # [B, K, H, W, 3]


class ComponentBackground(nnx.Module):
    """Infers K components and their masks, one after another (section 2.2; GENESIS).

    Args:
        image_size: H = W, a multiple of 32.
        num_components: K.
        channels, groups: of the narrowest convolutions and of their norms; others have multiples.
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
        self.mask_decoder = decoder(mask_size, 16 * c, 4 * g, stages, rngs)
        self.mask_block = ConvBlock(c, c, 3, groups=g, rngs=rngs)
        self.mask_out = Conv(c, 1, 3, rngs=rngs)
        widths = [2 * c, 2 * c, 4 * c, 4 * c]
        self.component_encoder = ConvEncoder(image_size, 4, widths, 2 * component_size, rngs=rngs)
        self.component_decoder = ValidBroadcastDecoder(
            component_size,
            2 * c,
            3,
            position="append",
            activation=elu,
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
        features = elu(self.encoder(images, train=train))

        def step(carry, eps):
            z, state, prior_state = carry
            p = Normal.of(self.prior_mask(prior_state[0]), STD_FLOOR)
            state = self.lstm(jnp.concatenate([z, features], axis=-1), state)
            q = Normal.of(self.mask(state[0]), STD_FLOOR)
            z = q.mean + q.std * eps
            return (z, state, self.prior_lstm(z, prior_state)), (z, q, p)

        carry = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (B, x.size)),
            (self.z_0[...], (self.h_0[...], self.c_0[...]), self._prior_state()),
        )
        eps = noise.normal((K, B, self.mask_size))
        _, (z_masks, q_mask, p_mask) = jax.lax.scan(step, carry, eps)
        log_masks = self._log_masks(z_masks)

        shares = log_shares(log_masks)
        seen = jnp.broadcast_to(images[:, None], (B, K, H, W, 3))
        x = jnp.concatenate([shares, seen], axis=-1).reshape(B * K, H, W, 4)
        q_comp = Normal.of(self.component_encoder(x, train=train).reshape(B, K, -1), STD_FLOOR)
        p_comp = self._component_prior(z_masks)
        pictures = self._draw(normal_sample(*q_comp, noise), train=train)
        return Components(q_mask, p_mask, q_comp, p_comp, log_masks, pictures)

    def sample(self, num_images: int, noise: Noise) -> tuple[Array, Array]:
        """Draws of the prior: log masks `[N, K, H, W]` and images `[N, K, H, W, 3]`."""

        def step(state, eps):
            p = Normal.of(self.prior_mask(state[0]), STD_FLOOR)
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
            x = elu(layer(x))
        return Normal.of(self.prior_component[-1](x), STD_FLOOR)

    def _draw(self, z: Array, *, train: bool) -> Array:
        """z `[B, K, D]` to images `[B, K, H, W, 3]`."""
        size = self.image_size
        return jax.nn.sigmoid(self.component_decoder(z, size, size, train=train))


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
            x = elu(norm(convolution(x), train=train))
        return self.out(x.reshape(len(x), -1))


def mix(log_masks: Array, images: Array) -> Array:
    """The image of components: log masks `[B, K, H, W]`, images `[B, K, H, W, 3]`."""
    return jnp.sum(jnp.exp(log_masks)[..., None] * images, axis=1)


def log_shares(log_masks: Array) -> Array:
    """Log masks `[B, K, H, W]`, none of them below `LOG_EPS`: `[B, K, H, W, 1]`."""
    return jnp.log(jnp.exp(log_masks) + LOG_EPS)[..., None]
