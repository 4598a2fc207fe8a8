"""SLATE (arXiv 2110.11405): slots on the tokens of a discrete VAE, decoded autoregressively.

An image has L = (H / 4)(W / 4) tokens out of a vocabulary of V. Slots are made from the tokens and
a transformer, which reads nothing but the slots, predicts the tokens again. B images have K slots.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.dropout import dropout
from akorn_jax.layers.group_norm import GroupNorm
from akorn_jax.layers.linear import Linear
from akorn_jax.layers.multi_head_slot_attention import MultiHeadSlotAttention
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.patch import token_grid
from akorn_jax.layers.resize import resize_masks
from akorn_jax.layers.slot_library import SlotLibrary
from akorn_jax.layers.subpixel import pixel_shuffle
from akorn_jax.layers.transformer import TransformerDecoder, glorot_uniform, he_uniform, layer_norm
from akorn_jax.outputs import ModelOutput

Array = jax.Array

DECODERS = ("dvae", "autoregressive")
UPSAMPLINGS = ("nearest", "bilinear")
PATCH_SIZE = 4  # of the image per token


class Model(nnx.Module):
    """A discrete VAE, slot attention on its tokens, and a transformer from slots back to tokens.

    The two terms train apart, as tokens carry no gradient: "mse" the VAE, "cross_entropy" the rest.

    Args:
        image_size: H = W, divisible by 4.
        num_slots: K, unless the call says otherwise.
        vocab_size: V.
        channels: C, of token embeddings and of the transformer.
        slot_size: S.
        hidden_size: of the MLP in the slot attention.
        num_iterations: T, unless the call says otherwise.
        num_slot_heads: of the slot attention, see `MultiHeadSlotAttention`.
        gradient: "unrolled" or "implicit", see `SlotAttention`.
        num_blocks, num_heads: of the transformer.
        dropout: rate in the transformer and on its embeddings.
        dvae_channels: of the discrete VAE.
        remat: recompute the transformer's blocks in the backward pass, see `TransformerDecoder`.
    """

    def __init__(
        self,
        image_size: int = 64,
        num_slots: int = 3,
        vocab_size: int = 1024,
        channels: int = 192,
        slot_size: int = 192,
        hidden_size: int = 192,
        num_iterations: int = 3,
        num_slot_heads: int = 1,
        gradient: str = "unrolled",
        num_blocks: int = 4,
        num_heads: int = 4,
        dropout: float = 0.1,
        dvae_channels: int = 64,
        remat: bool = False,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.image_size = image_size
        self.grid = token_grid(image_size, PATCH_SIZE)
        self.num_slots = num_slots
        self.vocab_size = vocab_size
        self.dropout = dropout
        length = math.prod(self.grid)
        self.dvae = DiscreteVAE(vocab_size, dvae_channels, rngs=rngs)
        # Index 0 begins a sequence; token t of the image has index t + 1.
        self.embed = nnx.Embed(
            vocab_size + 1, channels, embedding_init=nnx.initializers.normal(1.0), rngs=rngs
        )
        position = nnx.initializers.truncated_normal(1.0)
        self.position = nnx.Param(position(rngs.params(), (1 + length, channels)))
        self.norm_tokens = layer_norm(channels, rngs=rngs)
        self.token_hidden = Linear(channels, channels, kernel_init=he_uniform, rngs=rngs)
        self.token_out = Linear(channels, channels, kernel_init=glorot_uniform(), rngs=rngs)
        self.slot_attention = MultiHeadSlotAttention(
            channels,
            slot_size,
            num_heads=num_slot_heads,
            hidden_size=hidden_size,
            num_iterations=num_iterations,
            gradient=gradient,
            rngs=rngs,
        )
        self.slots_to_memory = Linear(
            slot_size, channels, use_bias=False, kernel_init=glorot_uniform(), rngs=rngs
        )
        self.decoder = TransformerDecoder(
            channels,
            num_heads,
            num_blocks=num_blocks,
            dropout_rate=dropout,
            remat=remat,
            rngs=rngs,
        )
        self.head = Linear(
            channels, vocab_size, use_bias=False, kernel_init=glorot_uniform(), rngs=rngs
        )

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        slots: Array | None = None,
        num_slots: int | None = None,
        num_iterations: int | None = None,
        temperature: float | Array = 1.0,
        hard: bool | Array = False,
        decode: str = "dvae",
        upsampling: str = "nearest",
        train: bool = False,
        trajectory: bool = False,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to tokens, slots, and back.

        Args:
            images: H = W = `image_size`.
            key: of the Gumbel noise and the dropout (both in training only) and the initial slots.
            slots: initial slots `[B, K, S]`, instead of random ones.
            num_slots, num_iterations: K and T of this call.
            temperature: of the relaxed tokens that the VAE decodes in training.
            hard: decode hard tokens in training, with the relaxed ones' gradient.
            decode: what `recon` shows: "dvae", the VAE alone, or "autoregressive", the tokens that
                are generated from the slots.
            upsampling: of the slots' attention to masks: "nearest" or "bilinear".
            train: draw tokens and drop out; otherwise tokens are the most probable ones.
            trajectory: keep the attention of every iteration.

        Returns:
            terms "mse" (summed over pixels and channels) and "cross_entropy" (summed over tokens),
            recon `[B, H, W, 3]` (not clipped), masks `[B, K, H, W]`, attention `[B, K, h, w]`,
            slots `[B, K, S]`, logits `[B, L, V]` of the tokens given those before and the slots
            and, if asked for, `trajectory`; float32.

        Raises:
            ValueError: a size or an option that the model does not have.
        """
        self._check(images, decode, upsampling)
        noise = Noise.of(key) if train or slots is None else None
        dropout_noise = noise if train else None

        log_probs = jax.nn.log_softmax(self.dvae.encode(images))  # [B, h, w, V]
        if train:
            z = gumbel_softmax(log_probs, temperature, hard, noise)
            # A draw of its own: tokens do not depend on what the VAE decodes.
            tokens = jnp.argmax(log_probs + gumbel(log_probs.shape, noise), axis=-1)
        else:
            tokens = jnp.argmax(log_probs, axis=-1)
            z = jax.nn.one_hot(tokens, self.vocab_size)
        recon = self.dvae.decode(z)
        mse = jnp.sum((images - recon) ** 2, axis=(1, 2, 3))

        tokens = tokens.reshape(len(images), -1)  # [B, L]
        embedded = self.embed_tokens(tokens, noise=dropout_noise)  # [B, 1 + L, C]
        if slots is None:
            slots = self.initial_slots(len(images), num_slots, noise)
        slots, attention = self.slot_attention(
            self.slot_inputs(embedded[:, 1:]),
            slots,
            num_iterations=num_iterations,
            trajectory=trajectory,
        )
        attention = attention.reshape(*attention.shape[:-1], *self.grid)  # [(T,) B, K, h, w]
        memory = self.slots_to_memory(slots)
        logits = self.head(self.decoder(embedded[:, :-1], memory, dropout_noise))
        logits = logits.astype(jnp.float32)
        log_likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[..., None], axis=-1)
        if decode == "autoregressive":
            recon = self.decode_tokens(self.generate(slots))
        maps = attention[-1] if trajectory else attention
        return ModelOutput(
            terms={"mse": mse, "cross_entropy": -jnp.sum(log_likelihood, axis=(1, 2))},
            recon=recon,
            masks=upsample(maps, upsampling),
            attention=maps,
            slots=slots,
            logits=logits,
            trajectory={"attention": (attention,)} if trajectory else None,
        )

    def generate(self, slots: Array) -> Array:
        """The tokens `[B, L]` of images with given slots `[B, K, S]`, each the most probable one.

        Keys and values of the tokens so far are cached, so that L tokens cost O(L²).
        """
        length = math.prod(self.grid)
        position = self.position[...]

        def extend(carry: tuple, t: Array) -> tuple[tuple, Array]:
            index, caches = carry
            x = (self.embed(index) + position[t])[:, None]  # [B, 1, C]
            y, caches = self.decoder.extend(x, caches, t)
            token = jnp.argmax(self.head(y[:, 0]), axis=-1)
            return (token + 1, caches), token

        start = jnp.zeros(len(slots), int), self.decoder.start(self.slots_to_memory(slots), length)
        _, tokens = jax.lax.scan(extend, start, jnp.arange(length))
        return tokens.T

    def decode_tokens(self, tokens: Array) -> Array:
        """Tokens `[B, L]` to images `[B, H, W, 3]`, in [0, 1] where the VAE is right."""
        tokens = tokens.reshape(-1, *self.grid)
        return self.dvae.decode(jax.nn.one_hot(tokens, self.vocab_size))

    def library(self, slots: np.ndarray, *, key: Array) -> SlotLibrary:
        """The library that `sample` composes from: as many concepts as a scene has slots.

        Args:
            slots: `[M, K, S]`, those of a set of images.
            key: of k-means.
        """
        return SlotLibrary.of(slots, num_concepts=slots.shape[1], key=key)

    def sample(
        self,
        num_images: int,
        *,
        key: Array | Noise,
        library: SlotLibrary,
        num_slots: int | None = None,
    ) -> Array:
        """New scenes `[N, H, W, 3]` in [0, 1], each of slots that come from different concepts.

        Args:
            num_images: N.
            key: draws the slots.
            library: slots of a set of images.
            num_slots: K of the scenes.
        """
        num_slots = self.num_slots if num_slots is None else num_slots
        slots = library.compose(num_images, num_slots, Noise.of(key))
        return jnp.clip(self.decode_tokens(self.generate(slots)), 0, 1)

    def embed_tokens(self, tokens: Array, *, noise: Noise | None = None) -> Array:
        """Tokens `[B, L]` to `[B, 1 + L, C]`: their beginning, then each, all with positions."""
        indices = jnp.pad(tokens + 1, ((0, 0), (1, 0)))
        return dropout(self.embed(indices) + self.position[...], self.dropout, noise)

    def initial_slots(self, batch_size: int, num_slots: int | None, noise: Noise) -> Array:
        """Draws of the learned Gaussian, `[B, K, S]`."""
        attention = self.slot_attention
        num_slots = self.num_slots if num_slots is None else num_slots
        draws = noise.normal((batch_size, num_slots, attention.mu.shape[-1]))
        return attention.mu[...] + jnp.exp(attention.log_sigma[...]) * draws

    def slot_inputs(self, embedded: Array) -> Array:
        """What the slot attention reads, `[B, L, C]`, from embedded tokens `[B, L, C]`."""
        return self.token_out(jax.nn.relu(self.token_hidden(self.norm_tokens(embedded))))

    def _check(self, images: Array, decode: str, upsampling: str) -> None:
        size = (self.image_size, self.image_size)
        if images.shape[1:3] != size:
            raise ValueError(
                f"images are {images.shape[1:3]}, the model was made for {size}; set "
                "config.model.image_size to what the data has."
            )
        if decode not in DECODERS:
            raise ValueError(f"{decode=} is unknown; it is one of {', '.join(DECODERS)}.")
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"{upsampling=} is unknown; it is one of {', '.join(UPSAMPLINGS)}.")


class DiscreteVAE(nnx.Module):
    """Images to the logits of their tokens, and distributions over tokens to images.

    Args:
        vocab_size: V.
        channels: of all layers within.
    """

    def __init__(self, vocab_size: int, channels: int, *, rngs: nnx.Rngs) -> None:
        c, quad = channels, 4 * channels  # quad: of the four pixels that one becomes
        encoder = [(3 * PATCH_SIZE**2, c, 1), *[(c, c, 1)] * 6]
        decoder = [(vocab_size, c, 1), (c, c, 3), (c, c, 1), (c, c, 1), (c, quad, 1)]
        finer = [(c, c, 3), (c, c, 1), (c, c, 1), (c, quad, 1)]
        self.encoder = nnx.List(Block(*sizes, rngs=rngs) for sizes in encoder)
        self.to_logits = Linear(c, vocab_size, kernel_init=glorot_uniform(), rngs=rngs)
        self.decoder = nnx.List(Block(*sizes, rngs=rngs) for sizes in decoder)
        self.finer = nnx.List(Block(*sizes, rngs=rngs) for sizes in finer)
        self.to_image = Linear(c, 3, kernel_init=glorot_uniform(), rngs=rngs)

    def encode(self, images: Array) -> Array:
        """`[B, H, W, 3]` to logits `[B, H / 4, W / 4, V]`, each from its own patch alone but for
        the norms."""
        batch, height, width, colors = images.shape
        p = PATCH_SIZE
        x = images.reshape(batch, height // p, p, width // p, p, colors).swapaxes(2, 3)
        x = x.reshape(batch, height // p, width // p, p * p * colors)
        for block in self.encoder:
            x = block(x)
        return self.to_logits(x).astype(jnp.float32)

    def decode(self, z: Array) -> Array:
        """Distributions over tokens `[B, h, w, V]` to images `[B, 4 h, 4 w, 3]`, not clipped."""
        x = z
        for blocks in (self.decoder, self.finer):
            for block in blocks:
                x = block(x)
            x = pixel_shuffle(x, 2)
        return self.to_image(x).astype(jnp.float32)


class Block(nnx.Module):
    """A convolution without bias, a norm over the whole map with a scale per channel, ReLU.

    Args:
        in_features, features: channels.
        kernel_size: 1 or 3.
    """

    def __init__(
        self, in_features: int, features: int, kernel_size: int, *, rngs: nnx.Rngs
    ) -> None:
        layer = Linear if kernel_size == 1 else functools.partial(nnx.Conv, kernel_size=(3, 3))
        self.convolution = layer(
            in_features, features, use_bias=False, kernel_init=he_uniform, rngs=rngs
        )
        self.norm = GroupNorm(features, 1, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """`[B, h, w, C]` to `[B, h, w, C']`."""
        return jax.nn.relu(self.norm(self.convolution(x.astype(self.convolution.kernel.dtype))))


def gumbel(shape: tuple[int, ...], noise: Noise) -> Array:
    """Standard Gumbel draws."""
    return -jnp.log(noise.exponential(shape))


def gumbel_softmax(
    log_probs: Array, temperature: float | Array, hard: bool | Array, noise: Noise
) -> Array:
    """Relaxed one-hot draws (arXiv 1611.01144) over the last axis, in the shape of `log_probs`.

    Args:
        log_probs: of the categories.
        temperature: above 0; draws are one-hot in the limit of 0.
        hard: one-hot draws with the gradient of relaxed ones ("straight through").
        noise: one Gumbel draw per entry.
    """
    soft = jax.nn.softmax((log_probs + gumbel(log_probs.shape, noise)) / temperature)
    one_hot = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1])
    return soft + hard * jax.lax.stop_gradient(one_hot - soft)


def upsample(maps: Array, kind: str) -> Array:
    """Attention `[B, K, h, w]` to masks `[B, K, 4 h, 4 w]`, which keep their sum over K.

    Args:
        maps: one value per token.
        kind: "nearest" or "bilinear" (half-pixel centres).
    """
    if kind == "nearest":
        return jnp.repeat(jnp.repeat(maps, PATCH_SIZE, axis=2), PATCH_SIZE, axis=3)
    height, width = maps.shape[2:]
    return resize_masks(maps, (PATCH_SIZE * height, PATCH_SIZE * width))
