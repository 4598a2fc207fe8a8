"""IODINE (arXiv 1903.00450): slots by iterative amortised variational inference.

B images are explained by K slots of Z latents. lam = (loc, raw) `[B, K, 2 Z]` is the posterior of
all slots, N(loc, softplus(raw)). It starts at the same learned numbers for all, and T - 1 times a
network looks at how well the decoded slots explain the image, and at the gradient of that, and
moves it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from akorn_jax.layers.distributions import LOG_2_PI, normal_kl, normal_log_prob
from akorn_jax.layers.elu import elu
from akorn_jax.layers.image_size import check_image_size
from akorn_jax.layers.linear import Linear, xavier_normal
from akorn_jax.layers.lstm import LSTM
from akorn_jax.layers.masks import composite
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.precision import KEEP
from akorn_jax.layers.slot_encoder import MapNorm
from akorn_jax.layers.soft_position import centred_grid
from akorn_jax.layers.tap_convolution import TapConv
from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder
from akorn_jax.outputs import ModelOutput

Array = jax.Array

MAPS = 17  # channels of the refinement network's input


class Decoded(NamedTuple):
    """A sample of the posterior, the scene that it stands for, and what that costs."""

    z: Array  # [B, K, Z]
    means: Array  # [B, K, H, W, 3] in [0, 1]
    logits: Array  # [B, K, H, W]
    log_masks: Array  # [B, K, H, W]
    nll: Array  # [B]
    kl: Array  # [B]


class Gradients(NamedTuple):
    """Of the loss of a `Decoded` scene with respect to its parts, before any normalisation."""

    means: Array  # [B, K, H, W, 3]
    log_masks: Array  # [B, K, H, W]
    lam: Array  # [B, K, 2 Z]


class RefinementNetwork(nnx.Module):
    """Maps and vectors of each slot, alone, to the step of its posterior.

    Args:
        slot_size: Z.
        channels: of the convolutions.
        hidden_size: D, of the LSTM.
    """

    def __init__(
        self,
        slot_size: int,
        channels: int,
        hidden_size: int,
        *,
        init: nnx.Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        self.convolutions = nnx.List(
            TapConv(
                channels if i else MAPS,
                channels,
                3,
                stride=2,
                padding=1,
                kernel_init=init,
                bias_init=nnx.initializers.zeros_init(),
                rngs=rngs,
            )
            for i in range(4)
        )
        self.hidden = Linear(channels, hidden_size, kernel_init=init, rngs=rngs)
        self.lstm = LSTM(hidden_size + 4 * slot_size, hidden_size, rngs=rngs)
        self.out = Linear(hidden_size, 2 * slot_size, kernel_init=init, rngs=rngs)

    def __call__(
        self, maps: Array, vectors: Array, state: tuple[Array, Array]
    ) -> tuple[Array, tuple[Array, Array]]:
        """One step.

        Args:
            maps: `[B, K, H, W, 17]`.
            vectors: `[B, K, 4 Z]`.
            state: (h, c) of the LSTM, each `[B, K, D]`.

        Returns:
            The step `[B, K, 2 Z]` and the next state.
        """
        B, K = maps.shape[:2]
        x = maps.reshape(B * K, *maps.shape[2:])
        for convolution in self.convolutions:
            x = elu(convolution(x))
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2)).reshape(B, K, -1)
        x = jnp.concatenate([elu(self.hidden(x)), vectors], axis=-1)
        state = self.lstm(x, state)
        return self.out(state[0]), state


class Model(nnx.Module):
    """Explains images by slots whose posterior is refined iteration by iteration.

    Args:
        image_size: H = W; the norms of the refinement's inputs have parameters per pixel.
        num_slots: K, at least 2, unless the call says otherwise.
        slot_size: Z.
        channels: of all convolutions.
        hidden_size: of the LSTM.
        num_iterations: T, how often slots are decoded, unless the call says otherwise.
        std: of the likelihood of a pixel's colour.
        gradient_batch: the refinement sees gradients of the loss summed over images and divided by
            this number; None is B, a mean over the batch, as the reference has it. There what
            comes out for an image depends (weakly, through the epsilon of a norm) on the number of
            images beside it; with a number it does not.
        released_tiling: show the refinement of slot k of image b the image (b K + k) mod B, as the
            released code of the ClevrTex benchmark does, from which its numbers come. False shows
            it its own.
        init_gain: of the initial weights, N(0, init_gain^2 2 / (fan_in + fan_out)); the reference's
            is 0.02.

    Raises:
        ValueError: fewer than 2 slots or less than 1 iteration.
    """

    def __init__(
        self,
        image_size: int = 128,
        num_slots: int = 11,
        slot_size: int = 128,
        channels: int = 64,
        hidden_size: int = 256,
        num_iterations: int = 5,
        std: float = 0.1,
        gradient_batch: int | None = None,
        released_tiling: bool = False,
        init_gain: float = 0.02,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        _check_numbers(num_slots, num_iterations)
        self.image_size = image_size
        self.num_slots = num_slots
        self.slot_size = slot_size
        self.num_iterations = num_iterations
        self.std = std
        self.gradient_batch = gradient_batch
        self.released_tiling = released_tiling
        self.posterior = nnx.Param(jnp.repeat(jnp.array([0.0, 1.0]), slot_size), **KEEP)
        init = xavier_normal(init_gain)
        self.decoder = ValidBroadcastDecoder(
            slot_size, channels, position="append", activation=elu, init=init, rngs=rngs
        )
        self.refinement = RefinementNetwork(slot_size, channels, hidden_size, init=init, rngs=rngs)
        self.norm_likelihood = MapNorm((image_size, image_size, 1))
        self.norm_without = MapNorm((image_size, image_size, 1))
        self.norm_means = MapNorm((image_size, image_size, 3))
        self.norm_log_masks = MapNorm((image_size, image_size, 1))
        self.norm_loc = nnx.LayerNorm(slot_size, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
        self.norm_raw = nnx.LayerNorm(slot_size, epsilon=1e-5, use_fast_variance=False, rngs=rngs)

    def __call__(
        self,
        inputs: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        num_slots: int | None = None,
        num_iterations: int | None = None,
        kl_weight: float | Array = 1.0,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to their slots; algorithm 1 of the paper.

        The inner gradients are constants for the outer one, as in the reference. One that is not
        finite makes the next posterior of its image, and so all terms, NaN: nothing hides it.

        Args:
            inputs: H = W = `image_size`.
            key: draws z, once per iteration.
            train: changes nothing; sampling stays on.
            trajectory: keep the masks of every iteration.
            num_slots, num_iterations: K and T of this call.
            kl_weight: of the KL in the loss whose gradient the refinement sees: that of the term
                "kl" in the training's.

        Returns:
            terms "nll" and "kl", sums over iterations i = 1 ... T weighted by i / T; "nll" leaves
            out the constant log(2 pi) / 2 per number. Of the last iteration: masks `[B, K, H, W]`,
            recon, patches and slots (the decoded samples).

        Raises:
            ValueError: images of another size, fewer than 2 slots or less than 1 iteration.
        """
        B = len(inputs)
        K = self.num_slots if num_slots is None else num_slots
        T = self.num_iterations if num_iterations is None else num_iterations
        self._check(inputs, K, T)
        noise = Noise.of(key).normal((T, B, K, self.slot_size))
        lam = jnp.broadcast_to(self.posterior[...], (B, K, 2 * self.slot_size))
        state = self.refinement.lstm.initial_state((B, K))

        def iterate(carry: tuple, noise: Array) -> tuple[tuple, tuple]:
            lam, state = carry
            decoded, gradients = self.differentiate(inputs, lam, noise, kl_weight)
            maps, vectors = self.refinement_inputs(inputs, lam, decoded, gradients)
            step, state = self.refinement(maps, vectors, state)
            log_masks = decoded.log_masks if trajectory else None
            return (lam + step, state), (decoded.nll, decoded.kl, log_masks)

        # Of an iteration, the backward pass keeps what it would take gradients to compute again.
        keep = jax.checkpoint_policies.save_only_these_names("gradients")
        iterate = jax.checkpoint(iterate, policy=keep)
        (lam, _), (nll, kl, log_masks) = jax.lax.scan(iterate, (lam, state), noise[:-1])
        last = self.decode(inputs, lam, noise[-1])
        weights = jnp.arange(1, T + 1) / T
        masks = jnp.exp(last.log_masks)
        if trajectory:
            earlier = jnp.exp(log_masks)
        return ModelOutput(
            terms={
                "nll": weights @ jnp.concatenate([nll, last.nll[None]]),
                "kl": weights @ jnp.concatenate([kl, last.kl[None]]),
            },
            recon=composite(masks, last.means),
            masks=masks,
            slots=last.z,
            patches=last.means,
            trajectory=(
                {"masks": (jnp.concatenate([earlier, masks[None]]),)} if trajectory else None
            ),
        )

    def sample(self, num_images: int, *, key: Array | Noise, num_slots: int | None = None) -> Array:
        """Scenes from the prior, `[num_images, H, W, 3]`.

        The prior is component-wise: every slot is an independent draw of N(0, 1), so nothing makes
        slots agree on one scene.
        """
        K = self.num_slots if num_slots is None else num_slots
        z = Noise.of(key).normal((num_images, K, self.slot_size))
        means, logits = self.render(z)
        return composite(jax.nn.softmax(logits, axis=1), means)

    def render(self, z: Array) -> tuple[Array, Array]:
        """Slots `[B, K, Z]` to means `[B, K, H, W, 3]` and mask logits `[B, K, H, W]`, float32."""
        maps = self.decoder(z, self.image_size, self.image_size).astype(jnp.float32)
        return jax.nn.sigmoid(maps[..., :3]), maps[..., 3]

    def decode(self, inputs: Array, lam: Array, noise: Array) -> Decoded:
        """A scene from the posterior lam, by z = loc + std noise, noise `[B, K, Z]`."""
        loc, raw = jnp.split(lam, 2, axis=-1)
        std = jnp.sqrt(jax.nn.softplus(raw))
        z = loc + std * noise
        means, logits = self.render(z)
        log_masks = jax.nn.log_softmax(logits, axis=1)
        nll = -jnp.sum(self.log_likelihood(inputs, means, log_masks), axis=(1, 2))
        kl = jnp.sum(normal_kl(loc, std), axis=(1, 2))
        return Decoded(z, means, logits, log_masks, nll, kl)

    def differentiate(
        self, inputs: Array, lam: Array, noise: Array, kl_weight: float | Array
    ) -> tuple[Decoded, Gradients]:
        """A decoded scene, and the gradients of its loss, through which no gradient passes.

        Those of means and log masks take them as independent of each other and of the rest.
        """
        images = self.gradient_batch or len(inputs)

        def loss(lam: Array) -> tuple[Array, Decoded]:
            decoded = self.decode(inputs, lam, noise)
            return jnp.sum(decoded.nll + kl_weight * decoded.kl) / images, decoded

        def nll(means: Array, log_masks: Array) -> Array:
            return -jnp.sum(self.log_likelihood(inputs, means, log_masks)) / images

        d_lam, decoded = jax.grad(loss, has_aux=True)(lam)
        d_means, d_log_masks = jax.grad(nll, argnums=(0, 1))(decoded.means, decoded.log_masks)
        gradients = jax.lax.stop_gradient(Gradients(d_means, d_log_masks, d_lam))
        return decoded, checkpoint_name(gradients, "gradients")

    def refinement_inputs(
        self, inputs: Array, lam: Array, decoded: Decoded, gradients: Gradients
    ) -> tuple[Array, Array]:
        """What the refinement network sees: maps `[B, K, H, W, 17]` and vectors `[B, K, 4 Z]`."""
        B, K, H, W = decoded.logits.shape
        everywhere = (B, K, H, W)
        log_prob = self.log_prob(inputs, decoded.means)  # [B, K, H, W, 3]
        stopped = jax.lax.stop_gradient((log_prob, decoded.log_masks))
        joint = stopped[0] + stopped[1][..., None]
        likelihood = jax.nn.logsumexp(joint, axis=1).sum(axis=-1)  # [B, H, W]
        # Without slot k, the masks of the others sum to 1 again.
        without = logsumexp_of_others(joint) - logsumexp_of_others(stopped[1])[..., None]
        if self.released_tiling:
            images = jnp.take(inputs, jnp.arange(B * K) % B, axis=0).reshape(B, K, H, W, 3)
        else:
            images = jnp.broadcast_to(inputs[:, None], (*everywhere, 3))
        maps = [
            images,
            decoded.means,
            decoded.log_masks[..., None],
            decoded.logits[..., None],
            jax.nn.log_softmax(log_prob.sum(axis=-1), axis=1)[..., None],
            _per_slot(self.norm_means, gradients.means),
            _per_slot(self.norm_log_masks, gradients.log_masks[..., None]),
            jnp.broadcast_to(
                self.norm_likelihood(likelihood[..., None])[:, None], (*everywhere, 1)
            ),
            _per_slot(self.norm_without, without.sum(axis=-1)[..., None]),
            jnp.broadcast_to(centred_grid(H, W), (*everywhere, 2)),
        ]
        d_loc, d_raw = jnp.split(gradients.lam, 2, axis=-1)
        vectors = [lam, self.norm_loc(d_loc), self.norm_raw(d_raw)]
        return jnp.concatenate(maps, axis=-1), jnp.concatenate(vectors, axis=-1)

    def log_prob(self, inputs: Array, means: Array) -> Array:
        """log N(x; means, std^2) without its constant, `[B, K, H, W, 3]`."""
        return normal_log_prob(inputs[:, None], means, jnp.float32(self.std)) + LOG_2_PI / 2

    def log_likelihood(self, inputs: Array, means: Array, log_masks: Array) -> Array:
        """Of each pixel, `[B, H, W]`: every channel is a mixture over slots of its own."""
        joint = log_masks[..., None] + self.log_prob(inputs, means)
        return jax.nn.logsumexp(joint, axis=1).sum(axis=-1)

    def _check(self, inputs: Array, num_slots: int, num_iterations: int) -> None:
        check_image_size(inputs, self.image_size)
        _check_numbers(num_slots, num_iterations)


def _check_numbers(num_slots: int, num_iterations: int) -> None:
    if num_slots < 2:
        raise ValueError(f"{num_slots=}: a slot is judged by what the others explain; take 2.")
    if num_iterations < 1:
        raise ValueError(f"{num_iterations=}: slots need at least 1 iteration.")


def logsumexp_of_others(a: Array) -> Array:
    """log sum_{j != k} exp a_j for every k, of a `[B, K, ...]`; -inf for K = 1.

    No gradient is to pass. The largest term is left out of the sum for its own k, and of the sum of
    all for the others, which stays at least as large as it: nothing cancels.
    """
    largest = jnp.argmax(a, axis=1, keepdims=True)
    first = jnp.arange(a.shape[1]).reshape(-1, *[1] * (a.ndim - 2)) == largest  # [B, K, ...]
    shift = jnp.max(a, axis=1, keepdims=True)
    terms = jnp.exp(a - shift)
    of_others = shift + jnp.log(jnp.sum(terms, axis=1, keepdims=True) - terms)
    of_first = jax.nn.logsumexp(jnp.where(first, -jnp.inf, a), axis=1, keepdims=True)
    return jnp.where(first, of_first, of_others)


def _per_slot(norm: MapNorm, maps: Array) -> Array:
    """Normalises maps `[B, K, H, W, C]`, each slot's alone."""
    return norm(maps.reshape(-1, *maps.shape[2:])).reshape(maps.shape)
