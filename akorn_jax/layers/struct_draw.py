"""StructDRAW: a map drawn step by step from a latent without places (arXiv 2010.12152)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.conv_lstm import ConvLSTM
from akorn_jax.layers.distributions import Normal, normal_kl
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.normed_mlp import NormedMLP
from akorn_jax.layers.subpixel import Conv

Array = jax.Array
State = tuple[Array, Array]


class StructDraw(nnx.Module):
    """The global latent z `[T, B, D]` and the map `[B, G, G, C]` that it draws (section 3.1).

    Step t adds to the map what an LSTM reads from z_t. The prior of z_t knows the steps before it;
    the posterior also sees the image's features and what the map still lacks of them.

    Args:
        channels: C.
        grid_size: G.
        num_steps: T.
        latent_size: D.
        hidden: channels of the encoder's and the decoder's LSTM.
        prior, posterior: hidden widths of the networks that give z's distributions.
        decoder: widths of the network behind z; the last one is a map, divisible by G^2.

    Raises:
        ValueError: `hidden` are not two, or there is no last width that is a map.
    """

    def __init__(
        self,
        channels: int,
        grid_size: int,
        *,
        num_steps: int,
        latent_size: int,
        hidden: Sequence[int],
        prior: Sequence[int],
        posterior: Sequence[int],
        decoder: Sequence[int],
        rngs: nnx.Rngs,
    ) -> None:
        cells = grid_size**2
        if len(hidden) != 2:
            raise ValueError(f"draw_channels={tuple(hidden)} must be two widths.")
        if not decoder:
            raise ValueError("global_decoder=() must have at least one width.")
        if decoder[-1] % cells:
            raise ValueError(
                f"The last of global_decoder={tuple(decoder)} is not divisible by the {cells} "
                "cells of the grid."
            )
        encoder_hidden, decoder_hidden = hidden
        self.num_steps = num_steps
        self.latent_size = latent_size
        self.channels = channels
        self.grid_size = grid_size
        self.prior = NormedMLP(decoder_hidden * cells, [*prior, 2 * latent_size], rngs=rngs)
        self.posterior = NormedMLP(encoder_hidden * cells, [*posterior, 2 * latent_size], rngs=rngs)
        self.encoder = ConvLSTM(2 * channels + decoder_hidden, encoder_hidden, grid_size, rngs=rngs)
        self.expand = NormedMLP(latent_size, decoder, bare=False, rngs=rngs)
        self.decoder = ConvLSTM(
            decoder[-1] // cells + channels, decoder_hidden, grid_size, rngs=rngs
        )
        self.write = Conv(decoder_hidden, channels, 3, rngs=rngs)

    def infer(self, features: Array, noise: Noise | None) -> tuple[Array, Array, Array]:
        """A draw of the posterior.

        Args:
            features: `[B, G, G, C]`.
            noise: one draw `[T, B, D]`; z is the posterior's mean in each step if None.

        Returns:
            z `[T, B, D]`, the map `[B, G, G, C]` and the divergence from the prior, summed over
            steps, `[B]`.
        """
        B = len(features)

        def step(carry, eps):
            encoder, decoder, drawn = carry
            seen = jnp.concatenate([features, features - drawn, decoder[0]], axis=-1)
            encoder = self.encoder(seen, encoder)
            q = Normal.of(self.posterior(encoder[0].reshape(B, -1)))
            kl = jnp.sum(normal_kl(*q, *self._prior(decoder)), axis=-1)
            z = q.mean + q.std * eps
            return (encoder, *self._step(z, decoder, drawn)), (z, kl)

        carry = (self.encoder.initial_state(B), *self._start(B))
        carry, (z, kl) = jax.lax.scan(step, carry, self._eps(B, noise))
        return z, carry[-1], jnp.sum(kl, axis=0)

    def sample(self, batch_size: int, noise: Noise) -> Array:
        """A draw of the prior, z `[T, B, D]`."""

        def step(carry, eps):
            p = self._prior(carry[0])
            z = p.mean + p.std * eps
            return self._step(z, *carry), z

        return jax.lax.scan(step, self._start(batch_size), self._eps(batch_size, noise))[1]

    def decode(self, z: Array) -> Array:
        """z `[T, B, D]` to the map `[B, G, G, C]`."""

        def step(carry, z):
            return self._step(z, *carry), None

        (_, drawn), _ = jax.lax.scan(step, self._start(z.shape[1]), z)
        return drawn

    def _eps(self, batch_size: int, noise: Noise | None) -> Array:
        shape = (self.num_steps, batch_size, self.latent_size)
        return jnp.zeros(shape) if noise is None else noise.normal(shape)

    def _start(self, batch_size: int) -> tuple[State, Array]:
        """The decoder's first state and an empty map."""
        G = self.grid_size
        return self.decoder.initial_state(batch_size), jnp.zeros((batch_size, G, G, self.channels))

    def _prior(self, decoder: State) -> Normal:
        return Normal.of(self.prior(decoder[0].reshape(len(decoder[0]), -1)))

    def _step(self, z: Array, decoder: State, drawn: Array) -> tuple[State, Array]:
        """What z `[B, D]` makes of the decoder's state and the map."""
        expanded = self.expand(z).reshape(*drawn.shape[:3], -1)
        decoder = self.decoder(jnp.concatenate([expanded, drawn], axis=-1), decoder)
        return decoder, drawn + self.write(decoder[0])
