"""Slot Attention for object discovery (arXiv 2006.15055): an autoencoder, one slot an object."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.broadcast_decoder import BroadcastDecoder
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.slot_attention import SlotAttention
from akorn_jax.layers.slot_encoder import SlotEncoder
from akorn_jax.outputs import ModelOutput

Array = jax.Array


class Model(nnx.Module):
    """Encodes an image, explains it by slots, and draws each slot with a mask.

    Inside, images lie in [-1, 1].

    Args:
        image_size: H = W.
        num_slots: K, unless the call says otherwise.
        channels: of the encoder and the decoder.
        slot_size: S.
        hidden_size: of the MLP in the slot attention.
        num_iterations: T, unless the call says otherwise.
        aggregation, gradient: see `SlotAttention`.
        decoder: "stationary", "expanding" or "up_convolve", see `BroadcastDecoder`.
        kernel_size: of all convolutions but the last.
        num_layers: convolutions of the encoder; see `BroadcastDecoder` for the decoder.
        activation: "relu" or "leaky_relu", of the encoder and the decoder.
        encoder_norm: "channel", "map" or "none", see `SlotEncoder`.
        attention_bias: give queries, keys and values a bias.
    """

    def __init__(
        self,
        image_size: int = 128,
        num_slots: int = 7,
        channels: int = 64,
        slot_size: int = 64,
        hidden_size: int = 128,
        num_iterations: int = 3,
        aggregation: str = "mean",
        gradient: str = "unrolled",
        decoder: str = "expanding",
        kernel_size: int = 5,
        num_layers: int = 4,
        activation: str = "relu",
        encoder_norm: str = "channel",
        attention_bias: bool = False,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.encoder = SlotEncoder(
            image_size,
            channels,
            strides=(1,) * num_layers,
            kernel_size=kernel_size,
            activation=activation,
            norm=encoder_norm,
            rngs=rngs,
        )
        self.slot_attention = SlotAttention(
            channels,
            slot_size,
            hidden_size=hidden_size,
            num_iterations=num_iterations,
            num_slots=num_slots,
            aggregation=aggregation,
            gradient=gradient,
            use_bias=attention_bias,
            rngs=rngs,
        )
        self.decoder = BroadcastDecoder(
            image_size,
            slot_size,
            channels,
            kind=decoder,
            num_layers=num_layers,
            kernel_size=kernel_size,
            activation=activation,
            rngs=rngs,
        )

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        slots: Array | None = None,
        num_slots: int | None = None,
        num_iterations: int | None = None,
        train: bool = False,
        trajectory: bool = False,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to masks, recon and slots.

        Args:
            images: H = W = `image_size`.
            key: draws the initial slots; not used when `slots` are given.
            slots: initial slots `[B, K, S]`.
            num_slots, num_iterations: K and T of this call.
            train: see `SlotAttention`.
            trajectory: keep the attention of every iteration.

        Returns:
            masks `[B, K, H, W]`, recon `[B, H, W, 3]` (in [0, 1] where the model is right, not
            clipped), slots `[B, K, S]` and, if asked for, `trajectory`; float32.
        """
        dtype = self.decoder.out.kernel.dtype
        features = self.encoder((2 * images - 1).astype(dtype))
        slots, attention = self.slot_attention.on_map(
            features,
            key=key,
            slots=slots,
            num_slots=num_slots,
            num_iterations=num_iterations,
            train=train,
            trajectory=trajectory,
        )
        pictures, logits = self.decoder(slots.astype(dtype))
        masks = jax.nn.softmax(logits.astype(jnp.float32), axis=1)
        recon = jnp.sum(masks[..., None] * pictures, axis=1)
        return ModelOutput(
            masks=masks,
            recon=(recon + 1) / 2,
            slots=slots,
            trajectory={"attention": (attention,)} if trajectory else None,
        )
