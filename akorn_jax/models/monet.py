"""MONet (arXiv 1901.11390): attention masks one object after the other, a VAE explains each.

The configuration is that of the ClevrTex benchmark (arXiv 2111.10265).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.convolution import Conv
from akorn_jax.layers.distributions import mixture_log_prob, normal_kl, normal_sample
from akorn_jax.layers.linear import linear
from akorn_jax.layers.masks import break_stick, mask_kl
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.unet import CONVOLUTION, UNet
from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder
from akorn_jax.outputs import ModelOutput

Array = jax.Array

MAX_GROWTH = 8  # the U-Net's channels double from level to level, up to so many times the first's


class Attention(nnx.Module):
    """What the next slot takes of an image, given what is left of it.

    Args:
        image_size: (H, W).
        channels: of the U-Net's highest level.
        num_levels: of the U-Net.
    """

    def __init__(
        self, image_size: tuple[int, int], channels: int, num_levels: int, *, rngs: nnx.Rngs
    ) -> None:
        widths = [channels * min(2**level, MAX_GROWTH) for level in range(num_levels)]
        self.unet = UNet(image_size, 4, widths, num_groups=None, rngs=rngs)
        self.out = linear(channels, 1, rngs=rngs)

    def __call__(self, images: Array, log_scope: Array) -> tuple[Array, Array]:
        """log alpha and log(1 - alpha) `[B, H, W]` of images `[B, H, W, 3]`, scope `[B, H, W]`."""
        x = self.unet(jnp.concatenate([images, log_scope[..., None]], axis=-1))
        logits = self.out(x)[..., 0].astype(jnp.float32)
        return jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)


class Encoder(nnx.Module):
    """An image and a mask to the posterior of what the mask shows.

    Args:
        image_size: (H, W).
        channels: C, of the first two convolutions; the others have twice as many.
        latent_size: D.
    """

    def __init__(
        self, image_size: tuple[int, int], channels: int, latent_size: int, *, rngs: nnx.Rngs
    ) -> None:
        C = channels
        self.convolutions = nnx.List(
            Conv(a, b, 3, stride=2, rngs=rngs)
            for a, b in itertools.pairwise([4, C, C, 2 * C, 2 * C])
        )
        h, w = (-(-n // 16) for n in image_size)
        self.hidden = linear(h * w * 2 * C, 8 * C, rngs=rngs)
        self.out = linear(8 * C, 2 * latent_size, rngs=rngs)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Image and log mask `[N, H, W, 4]` to mean and standard deviation `[N, D]`."""
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution(x))
        x = jax.nn.relu(self.hidden(x.reshape(len(x), -1)))
        mean, log_std = jnp.split(self.out(x).astype(jnp.float32), 2, axis=-1)
        return mean, jnp.exp(log_std)


class Model(nnx.Module):
    """K masks, made one after the other, and a VAE that explains what each shows.

    Args:
        image_size: H = W.
        num_slots: K.
        latent_size: D.
        channels: of the attention network's highest level.
        num_levels: of the attention network; 6 for 128 pixels, 5 for 64.
        component_channels: of the VAE's convolutions.
        background_std, foreground_std: of a pixel's value, under the first slot and the others.

    Raises:
        ValueError: less than two slots, a standard deviation that is not positive, or images too
            small for the levels.
    """

    def __init__(
        self,
        *,
        image_size: int = 128,
        num_slots: int = 11,
        latent_size: int = 16,
        channels: int = 64,
        num_levels: int = 6,
        component_channels: int = 32,
        background_std: float = 0.09,
        foreground_std: float = 0.15,
        rngs: nnx.Rngs,
    ) -> None:
        if num_slots < 2:
            raise ValueError(f"{num_slots=} must be at least 2: masks divide an image.")
        for name, std in {
            "background_std": background_std,
            "foreground_std": foreground_std,
        }.items():
            if std <= 0:
                raise ValueError(f"{name}={std} must be positive.")
        size = (image_size, image_size)
        self.image_size = image_size
        self.num_slots = num_slots
        self.latent_size = latent_size
        self.background_std = background_std
        self.foreground_std = foreground_std
        self.attention = Attention(size, channels, num_levels, rngs=rngs)
        self.encoder = Encoder(size, component_channels, latent_size, rngs=rngs)
        self.decoder = ValidBroadcastDecoder(
            latent_size, component_channels, position="append", activation=jax.nn.relu, rngs=rngs
        )

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        num_slots: int | None = None,
        use_mean: Array | bool = False,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to masks, slots and terms.

        Args:
            images: H = W = `image_size`.
            key: draws the slots from their posteriors, at evaluation too.
            train, trajectory: nothing depends on them.
            num_slots: K of this call; no parameter depends on it.
            use_mean: take the posterior's means as slots instead of a draw.

        Returns:
            masks `[B, K, H, W]` (those of the attention), patches `[B, K, H, W, 3]`, recon
            `[B, H, W, 3]` (patches under masks), slots `[B, K, D]` and the terms "nll" (-log of a
            mixture per pixel and channel), "kl" (of the slots, section 2) and "kl_mask" (of the
            attention's masks from those that the slots alone give), each `[B]`.
        """
        del train, trajectory
        noise = Noise.of(key)
        log_masks = self.attend(images, num_slots)
        mean, std = self.encode(images, log_masks)
        slots = jnp.where(use_mean, mean, normal_sample(mean, std, noise))
        patches, log_decoded = self.decode(slots)
        masks = jnp.exp(log_masks)
        log_prob = mixture_log_prob(
            images[:, None], log_masks[..., None], patches, self._std(masks.shape[1])
        )
        terms = {
            "nll": -jnp.sum(log_prob, axis=(1, 2, 3)),
            "kl": jnp.sum(normal_kl(mean, std), axis=(1, 2)),
            "kl_mask": jnp.sum(mask_kl(log_masks, log_decoded), axis=(1, 2)),
        }
        recon = jnp.sum(masks[..., None] * patches, axis=1)
        return ModelOutput(terms=terms, recon=recon, masks=masks, slots=slots, patches=patches)

    def attend(self, images: Array, num_slots: int | None = None) -> Array:
        """Log masks `[B, K, H, W]` of images `[B, H, W, 3]` (section 2.1).

        Each slot takes a share of what is left; the last takes what remains. Of a step, only what
        convolutions give is kept for its gradient, and the rest computed again.
        """
        K = self.num_slots if num_slots is None else num_slots

        keep = jax.checkpoint_policies.save_only_these_names(CONVOLUTION)

        @functools.partial(jax.checkpoint, policy=keep)
        def step(log_scope: Array, _: None) -> tuple[Array, Array]:
            log_mask, log_scope = break_stick(log_scope, *self.attention(images, log_scope))
            return log_scope, log_mask

        whole = jnp.zeros(images.shape[:-1])
        log_scope, log_masks = jax.lax.scan(step, whole, length=K - 1)  # [K - 1, B, H, W]
        return jnp.concatenate([log_masks, log_scope[None]]).swapaxes(0, 1)

    def encode(self, images: Array, log_masks: Array) -> tuple[Array, Array]:
        """Mean and standard deviation `[B, K, D]` of the slots' posterior."""
        B, K = log_masks.shape[:2]
        repeated = jnp.broadcast_to(images[:, None], (*log_masks.shape, 3))
        x = jnp.concatenate([repeated, log_masks[..., None]], axis=-1)
        mean, std = self.encoder(x.reshape(B * K, *x.shape[2:]))
        return mean.reshape(B, K, -1), std.reshape(B, K, -1)

    def decode(self, slots: Array) -> tuple[Array, Array]:
        """Slots `[B, K, D]` to patches `[B, K, H, W, 3]` and log masks `[B, K, H, W]`."""
        x = self.decoder(slots, self.image_size, self.image_size).astype(jnp.float32)
        return jax.nn.sigmoid(x[..., :3]), jax.nn.log_softmax(x[..., 3], axis=1)

    def sample(self, num_images: int, *, key: Array | Noise, num_slots: int | None = None) -> Array:
        """Images `[N, H, W, 3]` composed of slots that are drawn independently of each other.

        MONet has no prior of scenes: each slot comes from its own prior N(0, 1), and the masks are
        those that the slots give. What is drawn shows single components, not a coherent scene.
        """
        K = self.num_slots if num_slots is None else num_slots
        slots = Noise.of(key).normal((num_images, K, self.latent_size))
        patches, log_masks = self.decode(slots)
        return jnp.sum(jnp.exp(log_masks)[..., None] * patches, axis=1)

    def _std(self, num_slots: int) -> Array:
        """Standard deviations of K slots' pixels, `[K, 1, 1, 1]`."""
        std = jnp.full((num_slots, 1, 1, 1), self.foreground_std)
        return std.at[0].set(self.background_std)
