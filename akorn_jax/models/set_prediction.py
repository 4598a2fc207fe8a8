"""Slot Attention for set prediction (arXiv 2006.15055): slots tell what their objects are."""

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.noise import Noise
from akorn_jax.layers.slot_attention import SlotAttention
from akorn_jax.layers.slot_encoder import SlotEncoder
from akorn_jax.outputs import ModelOutput

Array = jax.Array


class Model(nnx.Module):
    """Encodes an image to a quarter of its size, attends, and reads each slot out.

    Inside, images lie in [-1, 1].

    Args:
        image_size: H = W, divisible by 4.
        num_slots: K, unless the call says otherwise.
        num_properties: P.
        channels: of the encoder.
        slot_size: S.
        hidden_size: of the MLP in the slot attention.
        head_size: hidden layer of the head.
        num_iterations: T, unless the call says otherwise.
        aggregation, gradient: see `SlotAttention`.
        kernel_size: of the convolutions.
    """

    def __init__(
        self,
        image_size: int = 128,
        num_slots: int = 10,
        num_properties: int = 19,
        channels: int = 64,
        slot_size: int = 64,
        hidden_size: int = 128,
        head_size: int = 64,
        num_iterations: int = 3,
        aggregation: str = "mean",
        gradient: str = "unrolled",
        kernel_size: int = 5,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        if image_size % 4:
            raise ValueError(f"{image_size=} must be divisible by 4, the stride of the encoder.")
        glorot = nnx.initializers.glorot_uniform()
        self.encoder = SlotEncoder(
            image_size, channels, strides=(1, 2, 2, 1), kernel_size=kernel_size, rngs=rngs
        )
        self.slot_attention = SlotAttention(
            channels,
            slot_size,
            hidden_size=hidden_size,
            num_iterations=num_iterations,
            num_slots=num_slots,
            aggregation=aggregation,
            gradient=gradient,
            rngs=rngs,
        )
        self.head_hidden = nnx.Linear(slot_size, head_size, kernel_init=glorot, rngs=rngs)
        self.head_out = nnx.Linear(head_size, num_properties, kernel_init=glorot, rngs=rngs)

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
        """Images `[B, H, W, 3]` in [0, 1] to properties and slots.

        Args:
            images: H = W = `image_size`.
            key: draws the initial slots; not used when `slots` are given.
            slots: initial slots `[B, K, S]`.
            num_slots, num_iterations: K and T of this call.
            train: see `SlotAttention`.
            trajectory: keep the attention of every iteration.

        Returns:
            logits `[B, K, P]`, the properties, each between 0 and 1; slots `[B, K, S]`; masks
            `[B, K, H, W]`, the attention, in squares of 4 x 4 pixels; if asked for, `trajectory`.
            All float32.
        """
        features = self.encoder((2 * images - 1).astype(self.head_out.kernel.dtype))
        slots, attention = self.slot_attention.on_map(
            features,
            key=key,
            slots=slots,
            num_slots=num_slots,
            num_iterations=num_iterations,
            train=train,
            trajectory=trajectory,
        )
        properties = jax.nn.sigmoid(self.head_out(jax.nn.relu(self.head_hidden(slots))))
        last = attention[-1] if trajectory else attention
        return ModelOutput(
            logits=properties.astype(jnp.float32),
            slots=slots,
            masks=last.repeat(4, axis=2).repeat(4, axis=3),
            trajectory={"attention": (attention,)} if trajectory else None,
        )
