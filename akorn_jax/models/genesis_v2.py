"""GENESIS-V2 (arXiv 2104.09958): objects by clustering pixel embeddings, with a prior of scenes.

The configuration is that of the ClevrTex benchmark (arXiv 2111.10265).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.broadcast_decoder import Upsample
from akorn_jax.layers.distributions import mixture_log_prob, normal_log_prob
from akorn_jax.layers.group_norm import GroupNorm
from akorn_jax.layers.linear import linear, uniform_fan_in
from akorn_jax.layers.lstm import LSTM
from akorn_jax.layers.masks import bounded_masks, break_stick, mask_kl
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.soft_position import centred_grid
from akorn_jax.layers.unet import Block, UNet
from akorn_jax.outputs import ModelOutput

Array = jax.Array

KERNELS = ("gaussian", "laplacian", "epanechnikov")
PRIORS = ("autoregressive", "independent")
MASK_KLS = ("none", "attention", "both")
EMBEDDING = 8  # entries of a pixel's embedding
SMALLEST_MASK = 1e-5  # in the divergence of the masks
MIN_PIXELS = 20  # a dynamic number of slots ends before a mask with less
NO_MASK = -1e10  # log mask of a slot that an image does not have

State = tuple[Array, Array]


class Normal(NamedTuple):
    """Independent normal distributions, of one shape."""

    mean: Array
    std: Array


class StickBreaking(nnx.Module):
    """Instance colouring stick breaking (section 3.2): masks around K - 1 random pixels.

    A pixel is drawn from what is left of the image. Its embedding is a seed; the nearer a pixel's
    own embedding, the larger the share of it that the mask takes. The order of the masks is
    random.

    Args:
        in_features: of the map that embeddings are made of.
        num_slots: K, which the initial width of the kernel depends on.
        kernel: share by distance, one of `KERNELS`.
        semi_conv: embeddings know where they are: their last two entries are offsets of the
            pixel's position.
    """

    def __init__(
        self, in_features: int, *, num_slots: int, kernel: str, semi_conv: bool, rngs: nnx.Rngs
    ) -> None:
        # An initial width at which K masks cover a unit cube of embeddings.
        sigma = {
            "gaussian": 1 / (num_slots * np.log(2)),
            "laplacian": 1 / (np.sqrt(num_slots) * np.log(2)),
            "epanechnikov": 2 / num_slots,
        }[kernel]
        self.kernel = kernel
        self.log_sigma = nnx.Param(jnp.asarray(np.log(sigma), jnp.float32))
        self.embed = linear(in_features, EMBEDDING, rngs=rngs)
        self.gate = nnx.Param(jnp.zeros(1)) if semi_conv else None

    def embeddings(self, features: Array) -> Array:
        """`[B, H, W, C]` to a vector per pixel, `[B, H, W, 8]`."""
        x = self.embed(features).astype(jnp.float32)
        if self.gate is None:
            return x
        position = centred_grid(*features.shape[1:3])
        return self.gate[...] * x + jnp.pad(position, ((0, 0), (0, 0), (EMBEDDING - 2, 0)))

    def __call__(
        self, features: Array, uniform: Array, num_slots: int, *, dynamic: Array | bool = False
    ) -> Array:
        """Features `[B, H, W, C]` to log masks `[B, K, H, W]`.

        Args:
            uniform: `[B, H, W]` in (0, 1); the pixel of its largest product with what is left is
                drawn.
            num_slots: K.
            dynamic: end before the first mask of less than 20 pixels; the last mask is what is
                left then, and slots behind it have the log mask -1e10.
        """
        x = self.embeddings(features)
        B, H, W, _ = x.shape

        def step(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
            log_scope, more = carry
            seed = jnp.argmax((uniform * jnp.exp(log_scope)).reshape(B, -1), axis=1)
            seed = jnp.take_along_axis(x.reshape(B, H * W, -1), seed[:, None, None], axis=1)
            alpha = clip_straight_through(self._share(x, seed[:, None]), 0.01, 0.99)
            log_mask, rest = break_stick(log_scope, jnp.log(alpha), jnp.log(1 - alpha))
            size = jnp.sum(jnp.exp(log_mask), axis=(1, 2), keepdims=True)
            go_on = more & (~jnp.asarray(dynamic) | (size >= MIN_PIXELS))  # [B, 1, 1]
            ended = jnp.where(more, log_scope, NO_MASK)
            carry = jnp.where(go_on, rest, log_scope), go_on
            return carry, jnp.where(go_on, log_mask, ended)

        start = jnp.zeros((B, H, W)), jnp.ones((B, 1, 1), bool)
        (log_scope, more), log_masks = jax.lax.scan(step, start, length=num_slots - 1)
        left = jnp.where(more, log_scope, NO_MASK)
        return jnp.concatenate([log_masks, left[None]]).swapaxes(0, 1)

    def _share(self, x: Array, seed: Array) -> Array:
        """Shares `[B, H, W]` in [0, 1] of pixels x `[B, H, W, 8]` by their distance from seeds."""
        sigma = jnp.exp(self.log_sigma[...])
        squared = jnp.sum((x - seed) ** 2, axis=-1)
        if self.kernel == "gaussian":
            return jnp.exp(-squared / sigma)
        if self.kernel == "laplacian":
            distance = jnp.sqrt(clip_straight_through(squared, 1e-10, 1e10))
            return jnp.exp(-distance / sigma)
        return jax.nn.relu(1 - squared / sigma)


class Decoder(nnx.Module):
    """Each slot, alone, to an image and the logit of its mask.

    The slot and the coordinates of a grid go through four transposed convolutions, each of which
    doubles the grid.

    Args:
        image_size: H = W, a multiple of 16.
        features: of slots and all layers.
        num_groups: of the norms.
    """

    def __init__(self, image_size: int, features: int, num_groups: int, *, rngs: nnx.Rngs) -> None:
        self.grid_size = image_size // 16
        init = uniform_fan_in(features * 25)
        self.layers = nnx.List(
            Upsample(inputs, features, 5, 2, init=init, rngs=rngs)
            for inputs in (features + 2, features, features, features)
        )
        self.norms = nnx.List(GroupNorm(features, num_groups, rngs=rngs) for _ in self.layers)
        self.out = linear(features, 4, rngs=rngs)

    def __call__(self, slots: Array) -> tuple[Array, Array]:
        """Slots `[N, D]` to images in [0, 1] `[N, H, W, 3]` and logits `[N, H, W]`."""
        N, D = slots.shape
        grid = (N, self.grid_size, self.grid_size)
        position = jnp.broadcast_to(centred_grid(*grid[1:]), (*grid, 2))
        x = jnp.concatenate([jnp.broadcast_to(slots[:, None, None], (*grid, D)), position], axis=-1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = jax.nn.relu(norm(layer(x)))
        x = self.out(x).astype(jnp.float32)
        return jax.nn.sigmoid(x[..., :3]), x[..., 3]


class Prior(nnx.Module):
    """The prior of a scene: slots one after the other, each given those before it (section 3.3).

    The first is N(0, 1). For every other an LSTM reads the slots before it.

    Args:
        features: D.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs) -> None:
        self.lstm = LSTM(features, 4 * features, rngs=rngs)
        self.out = linear(4 * features, 2 * features, rngs=rngs)

    def step(self, state: State, slot: Array) -> tuple[State, Normal]:
        """From a slot `[B, D]` to the next state and the next slot's distribution."""
        state = self.lstm(slot, state)
        mean, raw = jnp.split(self.out(state[0]).astype(jnp.float32), 2, axis=-1)
        return state, Normal(jnp.tanh(mean), jax.nn.sigmoid(raw + 4) + 1e-4)

    def __call__(self, slots: Array) -> Normal:
        """The distribution of each slot of `[K, B, D]`."""
        start = self.lstm.initial_state(slots.shape[1:2])
        _, others = jax.lax.scan(self.step, start, slots[:-1])
        first = standard_normal(slots[:1].shape)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, others)

    def sample(self, eps: Array) -> Array:
        """Slots `[K, B, D]` from standard normals of that shape."""

        def step(carry: tuple[State, Array], eps: Array) -> tuple[tuple[State, Array], Array]:
            state, p = self.step(*carry)
            slot = p.mean + p.std * eps
            return (state, slot), slot

        start = self.lstm.initial_state(eps.shape[1:2]), eps[0]
        _, others = jax.lax.scan(step, start, eps[1:])
        return jnp.concatenate([eps[:1], others])


class Model(nnx.Module):
    """Pixels cluster into K masks, each is encoded, and the slots alone draw masks and image.

    Args:
        image_size: H = W, at least 32 and a multiple of 16 such that the U-Net, which has
            log2(H) - 1 levels, can halve it.
        num_slots: K.
        features: D, of slots and of all maps.
        num_groups: of all group norms; divides the features. A norm takes what its channels have in
            common out of a map, so groups of few channels make colours of whole maps hard to learn.
        kernel: "gaussian", "laplacian" or "epanechnikov", see `StickBreaking`.
        semi_conv: see `StickBreaking`.
        prior: "autoregressive", see `Prior`, or "independent", N(0, 1) for every slot.
        std: of a pixel's value.
        mask_kl: "none"; "attention": a term "kl_mask" draws the masks of the attention towards
            those that the slots give; "both": and these towards those.

    Raises:
        ValueError: an unknown word, or a number that is out of its range.
    """

    def __init__(
        self,
        *,
        image_size: int = 128,
        num_slots: int = 11,
        features: int = 64,
        num_groups: int = 8,
        kernel: str = "gaussian",
        semi_conv: bool = True,
        prior: str = "autoregressive",
        std: float = 0.7,
        mask_kl: str = "none",
        rngs: nnx.Rngs,
    ) -> None:
        for name, value, known in (
            ("kernel", kernel, KERNELS),
            ("prior", prior, PRIORS),
            ("mask_kl", mask_kl, MASK_KLS),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; it is one of {', '.join(known)}.")
        if num_slots < 2:
            raise ValueError(f"{num_slots=} must be at least 2: masks divide an image.")
        if features % num_groups:
            raise ValueError(f"{features=} must be a multiple of {num_groups=}.")
        if std <= 0:
            raise ValueError(f"{std=} must be positive.")
        widths = unet_widths(image_size, features)
        self.num_slots = num_slots
        self.features = features
        self.std = std
        self.mask_kl = mask_kl
        size = (image_size, image_size)
        self.encoder = UNet(size, 3, widths, num_groups=num_groups, rngs=rngs)
        self.segment = Block(features, features, num_groups=num_groups, rngs=rngs)
        self.stick_breaking = StickBreaking(
            features, num_slots=num_slots, kernel=kernel, semi_conv=semi_conv, rngs=rngs
        )
        self.describe = Block(features, features, num_groups=num_groups, rngs=rngs)
        self.describe_out = linear(features, 2 * features, rngs=rngs)
        self.norm = nnx.LayerNorm(2 * features, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.hidden = linear(2 * features, 2 * features, rngs=rngs)
        self.out = linear(2 * features, 2 * features, rngs=rngs)
        self.decoder = Decoder(image_size, features, num_groups, rngs=rngs)
        self.prior = Prior(features, rngs=rngs) if prior == "autoregressive" else None

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        num_slots: int | None = None,
        dynamic: bool = False,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to masks, slots and terms.

        Args:
            images: H = W = `image_size`.
            key: draws the seeds of the masks, and the slots from their posteriors, at evaluation
                too.
            train: nothing depends on it.
            trajectory: keep the masks of the attention.
            num_slots: K of this call; no parameter depends on it.
            dynamic: each image has as many slots as it needs, K at most; see `StickBreaking`. The
                others have no part in anything, and `presence` says which there are.

        Returns:
            masks `[B, K, H, W]` (those that the slots give), patches `[B, K, H, W, 3]`, recon
            `[B, H, W, 3]` (patches under masks), slots `[B, K, D]`, with `dynamic` presence
            `[B, K]`, with `trajectory` "attention" `[1, B, K, H, W]`, and the terms "nll" (-log of
            a mixture per pixel and channel), "kl" (of the slots from their prior, estimated from
            the one draw) and, unless mask_kl="none", "kl_mask", each `[B]`.
        """
        del train
        noise = Noise.of(key)
        log_attention, features = self.attend(images, noise, num_slots, dynamic=dynamic)
        present = log_attention[:, :, 0, 0] > NO_MASK  # [B, K]
        q = self.encode(features, log_attention)
        K, B, D = q.mean.shape
        slots = q.mean + q.std * noise.normal((K, B, D))
        patches, log_masks = self.decode(slots, present)
        log_prob = mixture_log_prob(images[:, None], log_masks[..., None], patches, self.std)
        kl = jnp.sum(normal_log_prob(slots, *q) - normal_log_prob(slots, *self._prior(slots)), -1)
        terms = {
            "nll": -jnp.sum(log_prob, axis=(1, 2, 3)),
            "kl": jnp.sum(jnp.where(present, kl.T, 0.0), axis=1),
        }
        if self.mask_kl != "none":
            decoded = log_masks if self.mask_kl == "both" else jax.lax.stop_gradient(log_masks)
            divergence = mask_kl(
                bounded_masks(log_attention, SMALLEST_MASK), bounded_masks(decoded, SMALLEST_MASK)
            )
            terms["kl_mask"] = jnp.sum(divergence, axis=(1, 2))
        masks = jnp.exp(log_masks)
        return ModelOutput(
            terms=terms,
            recon=jnp.sum(masks[..., None] * patches, axis=1),
            masks=masks,
            slots=slots.swapaxes(0, 1),
            patches=patches,
            presence=present.astype(jnp.float32) if dynamic else None,
            trajectory={"attention": (jnp.exp(log_attention)[None],)} if trajectory else None,
        )

    def attend(
        self, images: Array, noise: Noise, num_slots: int | None = None, *, dynamic: bool = False
    ) -> tuple[Array, Array]:
        """Log masks `[B, K, H, W]` of the attention, and the features `[B, H, W, D]`."""
        features = self.encoder(images)
        log_masks = self.stick_breaking(
            self.segment(features),
            noise.uniform(images.shape[:-1]),
            self.num_slots if num_slots is None else num_slots,
            dynamic=dynamic,
        )
        return log_masks, features

    def encode(self, features: Array, log_masks: Array) -> Normal:
        """The posterior of slots, `[K, B, D]`: what the features under each mask are on average."""
        x = self.describe_out(self.describe(features)).astype(jnp.float32)
        masks = jnp.exp(log_masks)
        total = jnp.sum(masks, axis=(2, 3))[..., None]
        x = jnp.einsum("bkhw,bhwc->bkc", masks, x) / (total + 1e-5)
        x = self.out(jax.nn.relu(self.hidden(self.norm(x)))).astype(jnp.float32)
        mean, raw = jnp.split(x.swapaxes(0, 1), 2, axis=-1)
        return Normal(mean, jax.nn.softplus(raw + 0.5) + 1e-8)

    def decode(self, slots: Array, present: Array | None = None) -> tuple[Array, Array]:
        """Slots `[K, B, D]` to patches `[B, K, H, W, 3]` and log masks `[B, K, H, W]`.

        Args:
            present: `[B, K]`, which slots share out the pixels; all if None.
        """
        K, B, D = slots.shape
        patches, logits = self.decoder(slots.swapaxes(0, 1).reshape(B * K, D))
        patches, logits = (x.reshape(B, K, *x.shape[1:]) for x in (patches, logits))
        if present is not None:
            logits = jnp.where(present[..., None, None], logits, NO_MASK)
        return patches, jax.nn.log_softmax(logits, axis=1)

    def sample(self, num_images: int, *, key: Array | Noise, num_slots: int | None = None) -> Array:
        """Images `[N, H, W, 3]` of scenes that are drawn from the prior.

        With the autoregressive prior a slot knows of those before it, so scenes are coherent.
        """
        K = self.num_slots if num_slots is None else num_slots
        eps = Noise.of(key).normal((K, num_images, self.features))
        patches, log_masks = self.decode(eps if self.prior is None else self.prior.sample(eps))
        return jnp.sum(jnp.exp(log_masks)[..., None] * patches, axis=1)

    def _prior(self, slots: Array) -> Normal:
        return standard_normal(slots.shape) if self.prior is None else self.prior(slots)


def unet_widths(image_size: int, features: int) -> list[int]:
    """Channels of the U-Net's levels: twice the features in the three lowest.

    Raises:
        ValueError: no U-Net and decoder fit the size.
    """
    num_levels = image_size.bit_length() - 2  # log2(H) - 1, rounded down
    unit = max(16, 2 ** (num_levels - 1))
    if image_size < 32 or image_size % unit:
        raise ValueError(
            f"{image_size=} must be at least 32 and a multiple of {unit}: the U-Net halves it "
            "and the decoder doubles a sixteenth of it."
        )
    return [features] * (num_levels - 3) + [2 * features] * 3


def standard_normal(shape: tuple[int, ...]) -> Normal:
    """N(0, 1) of a shape."""
    return Normal(jnp.zeros(shape), jnp.ones(shape))


def clip_straight_through(x: Array, low: float, high: float) -> Array:
    """x in [low, high], with the gradient of x."""
    return x + jax.lax.stop_gradient(jnp.clip(x, low, high) - x)
