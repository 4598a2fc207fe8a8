"""DINOSAUR (arXiv 2209.14860): slots that reconstruct the features of a frozen encoder.

B images have N = h w features of D numbers and K slots of S numbers.
"""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.layers import precision
from akorn_jax.layers.frozen import freeze
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.slot_attention import SlotAttention, layer_norm
from akorn_jax.layers.soft_position import SoftPosition
from akorn_jax.outputs import ModelOutput

Array = jax.Array


class MLPDecoder(nnx.Module):
    """Slots `[B, K, S]` to features `[B, K, h, w, D]` and mask logits `[B, K, h, w]`.

    A slot is repeated at every position, a learned position is added, and an MLP that all share
    makes D + 1 numbers of the sum; the first is the logit. Slots are decoded one after another and
    once more in the backward pass, so the hidden layers of one slot alone are in memory.

    Args:
        grid: (h, w).
        feature_size: D.
        slot_size: S.
        hidden_size: of the MLP's hidden layers.
        num_hidden: how many there are.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        feature_size: int,
        slot_size: int,
        *,
        hidden_size: int,
        num_hidden: int,
        rngs: nnx.Rngs,
    ) -> None:
        sizes = [slot_size, *[hidden_size] * num_hidden, feature_size + 1]
        self.position = nnx.Param(jax.random.normal(rngs.params(), (*grid, slot_size)))
        self.layers = nnx.List(
            linear(sizes[i], sizes[i + 1], rngs=rngs) for i in range(len(sizes) - 1)
        )

    def __call__(self, slots: Array) -> tuple[Array, Array]:
        decoded = jax.lax.map(jax.checkpoint(self._decode), slots.swapaxes(0, 1))
        decoded = decoded.swapaxes(0, 1)  # [B, K, h, w, 1 + D]
        return decoded[..., 1:], decoded[..., 0]

    def _decode(self, slot: Array) -> Array:
        """One slot of every image `[B, S]` to `[B, h, w, 1 + D]`."""
        x = slot[:, None, None] + self.position[...]
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x).astype(jnp.float32)


class Model(nnx.Module):
    """Slot Attention over features; a decoder per slot reconstructs these, not the image.

    Args:
        encoder: the model whose `features` are explained, e.g. `{"name": "vit", "patch_size": 8}`:
            a module of `akorn_jax.models` and the arguments of its `Model`. It is frozen; its
            weights come from a trained run or from official weights. None: calls are given
            features.
        encoder_dtype: "bfloat16" computes the encoder in it, but for what `layers.precision` keeps.
        grid: (h, w) of the features.
        feature_size: D of the features.
        standardize: explain features with mean 0 and variance 1 in every dimension over the data
            (batch normalisation without parameters): for encoders that do not end in a norm.
        position: tell the slots where features are, by a linear map of their coordinates that is
            added after the norm. A ViT's features know where they are, those of an AKOrN whose
            attention is relative do not, and a slot has to know where to draw its mask.
        num_slots: K, unless the call says otherwise.
        slot_size: S.
        hidden_size: of the MLP in the slot attention.
        num_iterations: T, unless the call says otherwise.
        aggregation, gradient: see `SlotAttention`.
        decoder_size, decoder_layers: features and number of the decoder's hidden layers.

    Raises:
        ValueError: there is no such encoder.
    """

    def __init__(
        self,
        *,
        encoder: Mapping[str, Any] | None = None,
        encoder_dtype: str = "float32",
        grid: Sequence[int] = (28, 28),
        feature_size: int = 768,
        standardize: bool = False,
        position: bool = False,
        num_slots: int = 11,
        slot_size: int = 128,
        hidden_size: int = 512,
        num_iterations: int = 3,
        aggregation: str = "mean",
        gradient: str = "unrolled",
        decoder_size: int = 1024,
        decoder_layers: int = 3,
        rngs: nnx.Rngs,
    ) -> None:
        if encoder_dtype not in ("float32", "bfloat16"):
            raise ValueError(f"{encoder_dtype=} is unknown; use float32 or bfloat16.")
        h, w = grid
        self.feature_shape = (h, w, feature_size)
        self.encoder = _frozen_encoder(encoder, rngs) if encoder else None
        self.encoder_dtype = encoder_dtype
        self.statistics = (
            nnx.BatchNorm(
                feature_size, use_scale=False, use_bias=False, use_fast_variance=False, rngs=rngs
            )
            if standardize
            else None
        )
        self.norm = layer_norm(feature_size, rngs=rngs)
        self.position = SoftPosition(feature_size, rngs=rngs) if position else None
        self.hidden = linear(feature_size, feature_size, rngs=rngs)
        self.out = linear(feature_size, slot_size, rngs=rngs)
        self.slot_attention = SlotAttention(
            slot_size,
            slot_size,
            hidden_size=hidden_size,
            num_iterations=num_iterations,
            num_slots=num_slots,
            aggregation=aggregation,
            gradient=gradient,
            rngs=rngs,
        )
        self.decoder = MLPDecoder(
            (h, w),
            feature_size,
            slot_size,
            hidden_size=decoder_size,
            num_hidden=decoder_layers,
            rngs=rngs,
        )

    def __call__(
        self,
        inputs: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        num_slots: int | None = None,
        num_iterations: int | None = None,
    ) -> ModelOutput:
        """Explains an image's features by slots.

        Args:
            inputs: images `[B, H, W, 3]` in [0, 1], or the encoder's features `[B, h, w, D]`.
            key: draws what the encoder draws, then the initial slots.
            train: see `SlotAttention`; the encoder does not train.
            trajectory: keep the attention of every iteration.
            num_slots, num_iterations: K and T of this call.

        Returns:
            terms "feature_mse" (mean squared error over the N D numbers of an image), masks and
            attention `[B, K, h, w]`, slots `[B, K, S]`, features `[B, h, w, D]` (the encoder's)
            and, if asked for, `trajectory`; float32.

        Raises:
            UserError: features of another shape than the model is built for, or images and no
                encoder.
        """
        noise = Noise.of(key)
        features = target = self.features(inputs, noise)
        if self.statistics is not None:
            target = self.statistics(features, use_running_average=not train)
        x = self.norm(target)
        if self.position is not None:
            x = self.position(x)
        x = self.out(jax.nn.relu(self.hidden(x)))
        slots, attention = self.slot_attention.on_map(
            x,
            key=noise,
            slots=None,
            num_slots=num_slots,
            num_iterations=num_iterations,
            train=train,
            trajectory=trajectory,
        )
        decoded, logits = self.decoder(slots)
        masks = jax.nn.softmax(logits, axis=1)
        recon = jnp.sum(masks[..., None] * decoded, axis=1)
        return ModelOutput(
            terms={"feature_mse": jnp.mean((recon - target) ** 2, axis=(1, 2, 3))},
            masks=masks,
            attention=attention[-1] if trajectory else attention,
            slots=slots,
            features=features,
            trajectory={"attention": (attention,)} if trajectory else None,
        )

    def features(self, inputs: Array, noise: Noise) -> Array:
        """What the encoder makes of images, `[B, h, w, D]` float32; no gradient goes through it."""
        shape = inputs.shape[1:]
        if shape == self.feature_shape:
            return inputs.astype(jnp.float32)
        if self.encoder is None:
            raise UserError(
                f"features of shape {shape} do not fit config.model.grid and feature_size, which "
                f"say {self.feature_shape}; for images, name an encoder in config.model.encoder."
            )
        graphdef, params, rest = nnx.split(self.encoder, nnx.Param, ...)
        encoder = nnx.merge(graphdef, precision.cast(params, self.encoder_dtype), rest)
        features = encoder(inputs, key=noise).features
        if features is None:
            raise UserError(f"{type(self.encoder).__module__} gives no features to explain.")
        if features.shape[1:] != self.feature_shape:
            raise UserError(
                f"the encoder gives features of shape {features.shape[1:]}, config.model.grid and "
                f"feature_size say {self.feature_shape}; set them to the former."
            )
        return jax.lax.stop_gradient(features.astype(jnp.float32))


def _frozen_encoder(config: Mapping[str, Any], rngs: nnx.Rngs) -> nnx.Module:
    """The model that a config names, with weights that training leaves alone."""
    fields = dict(config)
    name = fields.pop("name")
    module = f"akorn_jax.models.{name}"
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"config.model.encoder.name={name!r}: there is no module {module}.")
    encoder = importlib.import_module(module).Model(**fields, rngs=rngs)
    freeze(encoder)
    return encoder
