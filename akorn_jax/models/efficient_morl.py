"""Efficient MORL (arXiv 2106.03849): a hierarchical posterior by slot attention, then refined.

B images have K slots of Z latents. lam `[B, K, 2, Z]` holds the posterior of all slots: the means
loc and the raw numbers of N(loc, softplus(raw)). L layers of slot attention go up to the first one
that is decoded; I times a small network then moves it along the gradient of how well the decoded
slots explain the image. Training starts with I = 3 and needs less later.
"""

import functools
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from akorn_jax.layers.distributions import LOG_2_PI, normal_kl, normal_log_prob
from akorn_jax.layers.elu import elu
from akorn_jax.layers.gru import GRU
from akorn_jax.layers.linear import Linear, uniform_fan_in, xavier_normal
from akorn_jax.layers.masks import composite
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.precision import KEEP
from akorn_jax.layers.soft_position import SoftPosition
from akorn_jax.layers.valid_broadcast_decoder import ValidBroadcastDecoder
from akorn_jax.outputs import ModelOutput

Array = jax.Array
Gaussian = tuple[Array, Array]  # mean and standard deviation
KL = Callable[[int | Array, Array], Array]  # of an iteration and its posterior, `[B]`

HIDDEN = 128  # units of the prior's and the refinement's hidden layers
LIKELIHOODS = ("gaussian", "mixture")


class Weights(NamedTuple):
    """Of the two terms in the loss whose gradient the refinement sees."""

    nll: float | Array
    kl: float | Array


class Decoded(NamedTuple):
    """A sample of the posterior, the scene that it stands for, and what that costs."""

    z: Array  # [B, K, Z]
    means: Array  # [B, K, H, W, 3] in [0, 1]
    logits: Array  # [B, K, H, W]
    nll: Array  # [B]
    kl: Array  # [B]


class Encoder(nnx.Module):
    """Images `[B, H, W, 3]` in [-1, 1] to tokens `[B, H W, C]`."""

    def __init__(self, channels: int, *, init: nnx.Initializer, rngs: nnx.Rngs) -> None:
        torch_init = uniform_fan_in(4)
        self.convolutions = nnx.List(
            nnx.Conv(channels if i else 3, channels, (5, 5), padding=2, kernel_init=init, rngs=rngs)
            for i in range(4)
        )
        self.position = SoftPosition(
            channels, kernel_init=torch_init, bias_init=torch_init, rngs=rngs
        )
        self.norm = _layer_norm(channels, rngs)
        self.hidden = Linear(channels, channels, kernel_init=init, rngs=rngs)
        self.out = Linear(channels, channels, kernel_init=init, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        x = images.astype(self.convolutions[0].kernel.dtype)
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution(x))
        x = self.norm(self.position(x).reshape(len(x), -1, x.shape[-1]))
        return self.out(jax.nn.relu(self.hidden(x)))


class DualGRU(nnx.Module):
    """Two GRUs that see the same input: one moves loc, one raw (the axis of 2 in all arrays).

        r, u = sigmoid(W x + b + U h + b')
        n = tanh(W_n x + b_n + r (U_n h + b'_n)),  h' = (1 - u) n + u h

    All parameters start from N(0, 1), unscaled, as the reference's do.

    Args:
        features: Z, of the input and of each state.
    """

    def __init__(self, features: int, *, rngs: nnx.Rngs) -> None:
        Z, normal = features, nnx.initializers.normal(1.0)
        self.input_gates = nnx.Param(normal(rngs.params(), (2, Z, 2 * Z)))  # r, u
        self.state_gates = nnx.Param(normal(rngs.params(), (2, Z, 2 * Z)))
        self.gates_bias = nnx.Param(normal(rngs.params(), (2, 2, 2 * Z)))  # b, b'
        self.input_new = nnx.Param(normal(rngs.params(), (2, Z, Z)))
        self.state_new = nnx.Param(normal(rngs.params(), (2, Z, Z)))
        self.new_bias = nnx.Param(normal(rngs.params(), (2, 2, Z)))  # b_n, b'_n

    def __call__(self, x: Array, h: Array) -> Array:
        """Input x `[B, K, Z]` and states h `[B, K, 2, Z]` to the next states."""

        def of_input(kernel: nnx.Param) -> Array:
            return jnp.einsum("bki,gij->bkgj", x, kernel[...])

        def of_state(kernel: nnx.Param) -> Array:
            return jnp.einsum("bkgi,gij->bkgj", h, kernel[...])

        gates = of_input(self.input_gates) + of_state(self.state_gates)
        r, u = jnp.split(jax.nn.sigmoid(gates + self.gates_bias[0] + self.gates_bias[1]), 2, -1)
        of_h = of_state(self.state_new) + self.new_bias[1]
        n = jnp.tanh(of_input(self.input_new) + self.new_bias[0] + r * of_h)
        return (1 - u) * n + u * h


class Residual(nnx.Module):
    """h + MLP(LayerNorm(h)), for h `[..., Z]`."""

    def __init__(self, features: int, *, init: nnx.Initializer, rngs: nnx.Rngs) -> None:
        self.norm = _layer_norm(features, rngs)
        self.hidden = Linear(features, 2 * features, kernel_init=init, rngs=rngs)
        self.out = Linear(2 * features, features, kernel_init=init, rngs=rngs)

    def __call__(self, h: Array) -> Array:
        return h + self.out(jax.nn.relu(self.hidden(self.norm(h))))


class HierarchicalEncoder(nnx.Module):
    """One layer of the bottom-up posterior; all layers share it.

    Args:
        in_features: of the tokens.
        slot_size: Z.
    """

    def __init__(
        self, in_features: int, slot_size: int, *, init: nnx.Initializer, rngs: nnx.Rngs
    ) -> None:
        def projection(inputs: int) -> Linear:
            return Linear(inputs, slot_size, use_bias=False, kernel_init=init, rngs=rngs)

        self.to_k = projection(in_features)
        self.to_v = projection(in_features)
        self.to_q = projection(slot_size)
        self.norm_slots = _layer_norm(slot_size, rngs)
        self.gru = DualGRU(slot_size, rngs=rngs)
        self.residual_loc = Residual(slot_size, init=init, rngs=rngs)
        self.residual_raw = Residual(slot_size, init=init, rngs=rngs)

    def __call__(self, lam: Array, slots: Array, k: Array, v: Array) -> tuple[Array, Array]:
        """The posterior above.

        Args:
            lam: of the layer below, `[B, K, 2, Z]`.
            slots: a sample of it, `[B, K, Z]`, which alone competes for tokens.
            k, v: keys and values of the tokens, `[B, N, Z]`.

        Returns:
            lam `[B, K, 2, Z]` and the attention `[B, K, N]`, which sums to 1 over the slots.
        """
        q = self.to_q(self.norm_slots(slots)) * slots.shape[-1] ** -0.5
        logits = jnp.einsum("bkz,bnz->bkn", q, k).astype(jnp.float32)
        attention = jax.nn.softmax(logits, axis=1)
        weights = attention + 1e-8
        weights = weights / weights.sum(axis=-1, keepdims=True)
        lam = self.gru(jnp.einsum("bkn,bnz->bkz", weights, v), lam)
        loc, raw = lam[:, :, 0], lam[:, :, 1]
        return jnp.stack([self.residual_loc(loc), self.residual_raw(raw)], axis=2), attention


class Prior(nnx.Module):
    """p(z_l | z_{l + 1}), of each slot alone; all layers share it."""

    def __init__(self, slot_size: int, *, init: nnx.Initializer, rngs: nnx.Rngs) -> None:
        self.hidden = Linear(slot_size, HIDDEN, kernel_init=init, rngs=rngs)
        self.loc = Linear(HIDDEN, slot_size, kernel_init=init, rngs=rngs)
        self.raw = Linear(HIDDEN, slot_size, kernel_init=init, rngs=rngs)

    def __call__(self, z: Array) -> Gaussian:
        hidden = elu(self.hidden(z))
        loc, raw = (head(hidden).astype(jnp.float32) for head in (self.loc, self.raw))
        return loc, _std(raw)


class RefinementNetwork(nnx.Module):
    """The posterior of each slot and its gradient to the posterior's step, by a GRU."""

    def __init__(self, slot_size: int, *, init: nnx.Initializer, rngs: nnx.Rngs) -> None:
        self.hidden = Linear(4 * slot_size, HIDDEN, kernel_init=init, rngs=rngs)
        self.encode = Linear(HIDDEN, slot_size, kernel_init=init, rngs=rngs)
        self.gru = GRU(slot_size, init=uniform_fan_in(slot_size), rngs=rngs)
        self.loc = Linear(slot_size, slot_size, kernel_init=init, rngs=rngs)
        self.raw = Linear(slot_size, slot_size, kernel_init=init, rngs=rngs)

    def __call__(self, lam: Array, gradient: Array, h: Array) -> tuple[Array, Array]:
        """lam and its gradient `[B, K, 2, Z]`, state h `[B, K, Z]` to the step and the next h."""
        inputs = jnp.concatenate([lam, _standardized(gradient)], axis=2)  # [B, K, 4, Z]
        x = self.encode(elu(self.hidden(inputs.reshape(*h.shape[:2], -1))))
        h = self.gru(x, h)
        return jnp.stack([self.loc(h), self.raw(h)], axis=2), h


class Model(nnx.Module):
    """Explains images by slots; no parameter depends on the size of images.

    Args:
        image_size: H = W of the images that it is trained on, which `least_terms` counts the pixels
            of, and of those that `sample` draws; a call takes any.
        num_slots: K, unless the call says otherwise.
        slot_size: Z.
        channels: of the encoder and the decoder.
        num_layers: L, of the hierarchy.
        num_iterations: I, unless the call says otherwise.
        std: of the likelihood of a pixel's colour.
        likelihood: "gaussian", of the mixed image, the paper's choice; "mixture", every channel of
            a pixel is a mixture over slots.
        gradient_batch: the refinement sees the gradient of the loss summed over images and divided
            by this number; None is B, a mean over the batch, as the reference has it. There what
            comes out for an image depends (weakly, through the epsilon of a norm) on the number of
            images beside it; with a number it does not.
    """

    option_ranges: ClassVar = {"num_iterations": (0, math.inf)}

    def __init__(
        self,
        image_size: int = 128,
        num_slots: int = 11,
        slot_size: int = 64,
        channels: int = 64,
        num_layers: int = 3,
        num_iterations: int = 3,
        std: float = 0.1,
        likelihood: str = "gaussian",
        gradient_batch: int | None = None,
        init_gain: float = 0.02,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"{likelihood=} is unknown; it is one of {', '.join(LIKELIHOODS)}.")
        if num_layers < 1:
            raise ValueError(f"{num_layers=}: the hierarchy needs at least 1 layer.")
        self.image_size = image_size
        self.num_slots = num_slots
        self.slot_size = slot_size
        self.num_layers = num_layers
        self.num_iterations = num_iterations
        self.std = std
        self.likelihood = likelihood
        self.gradient_batch = gradient_batch
        initial = jnp.stack([jnp.zeros(slot_size), jnp.ones(slot_size)])  # [2, Z]
        self.posterior = nnx.Param(initial, **KEEP)
        init = xavier_normal(init_gain)
        self.encoder = Encoder(channels, init=init, rngs=rngs)
        self.layer = HierarchicalEncoder(channels, slot_size, init=init, rngs=rngs)
        self.prior = Prior(slot_size, init=init, rngs=rngs)
        self.decoder = ValidBroadcastDecoder(
            slot_size,
            channels,
            out_kernel_size=3,
            position="add",
            activation=elu,
            init=init,
            rngs=rngs,
        )
        self.refinement = RefinementNetwork(slot_size, init=init, rngs=rngs)

    @property
    def least_terms(self) -> dict[str, float]:
        """What a term cannot fall below: "nll_last" for a perfect reconstruction, per image."""
        return {"nll_last": math.log(self.std) * 3 * self.image_size**2}

    def __call__(
        self,
        inputs: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        num_slots: int | None = None,
        num_iterations: int | Array | None = None,
        nll_weight: float | Array = 1.0,
        kl_weight: float | Array = 1.0,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to their slots.

        The inner gradients are constants for the outer one, as in the reference. One that is not
        finite makes the next posterior of its image, and so all terms, NaN: nothing hides it.

        Args:
            inputs: any H and W.
            key: draws the slots of all layers, those of the prior's conditions, and one z per
                refinement.
            train: changes nothing; sampling stays on.
            trajectory: keep the attention of every layer, and the masks of every iteration (the
                last ones repeated where a traced number of iterations is less than the model's).
            num_slots: K of this call.
            num_iterations: I of this call, at least 0. It may be traced, also as a float, for
                curricula without a second compilation: then at most the model's own, to which it
                is clipped.
            nll_weight, kl_weight: of the terms in the loss whose gradient the refinement sees:
                those of the training's, e.g. GECO's multiplier.

        Returns:
            terms "nll" and "kl", sums over i = 0 ... I weighted by (I + 3 - i) / (I + 1); "nll"
            leaves out the constant log(2 pi) / 2 per number. "nll_last", of i = I alone, is what
            GECO constrains: it is no part of the loss. Of the last iteration: masks
            `[B, K, H, W]`, recon, patches and slots (the decoded samples).

        Raises:
            ValueError: inputs are no colour images, or numbers are too small.
        """
        B, H, W = inputs.shape[:3]
        K = self.num_slots if num_slots is None else num_slots
        I = self.num_iterations if num_iterations is None else num_iterations
        self._check(inputs, K, I)
        curriculum = isinstance(I, jax.Array)
        if curriculum:
            I = jnp.clip(I, 0, self.num_iterations).astype(jnp.int32)
        steps = self.num_iterations if curriculum else I

        noise, shape = Noise.of(key), (B, K, self.slot_size)
        initial, layers, conditions, refinements = (
            noise.normal((*lead, *shape))
            for lead in ((), (self.num_layers,), (self.num_layers - 1,), (steps,))
        )
        posteriors, attention = self.encode(inputs, initial, layers)
        kl = self.kl_of_iterations(posteriors, conditions)
        # What is decoded first is the sample that the last layer has made.
        noise = jnp.concatenate([layers[-1:], refinements])
        weights = Weights(nll_weight, kl_weight)
        lam, (nll, kls, logits) = self.refine(
            inputs, posteriors[-1], noise[:-1], kl, weights, I if curriculum else None, trajectory
        )
        last = self.decode(inputs, lam, noise[I], functools.partial(kl, I))
        masks = jax.nn.softmax(last.logits, axis=1)
        i = jnp.arange(steps)
        share, last_share = (I + 3 - i) / (I + 1), 3 / (I + 1)
        told = None
        if trajectory:
            done = (i < I)[:, None, None, None, None]
            earlier = jnp.where(done, jax.nn.softmax(logits, axis=2), masks)
            told = {
                "masks": (jnp.concatenate([earlier, masks[None]]),),
                "attention": (attention.reshape(self.num_layers, B, K, H, W),),
            }
        return ModelOutput(
            terms={
                "nll": share @ nll + last_share * last.nll,
                "kl": share @ kls + last_share * last.kl,
                "nll_last": last.nll,
            },
            recon=composite(masks, last.means),
            masks=masks,
            slots=last.z,
            patches=last.means,
            trajectory=told,
        )

    def sample(self, num_images: int, *, key: Array | Noise, num_slots: int | None = None) -> Array:
        """Scenes from the hierarchical prior, `[num_images, H, W, 3]`.

        z_L is N(0, 1), and each layer below a draw of p(z_l | z_{l + 1}). The prior is
        component-wise: slots are independent, so nothing makes them agree on one scene.
        """
        K = self.num_slots if num_slots is None else num_slots
        noise = Noise.of(key).normal((self.num_layers, num_images, K, self.slot_size))
        z = noise[0]
        for epsilon in noise[1:]:
            loc, std = self.prior(z)
            z = loc + std * epsilon
        means, logits = self.render(z, self.image_size, self.image_size)
        return composite(jax.nn.softmax(logits, axis=1), means)

    def encode(self, inputs: Array, initial: Array, noise: Array) -> tuple[Array, Array]:
        """The bottom-up posteriors.

        Args:
            inputs: images `[B, H, W, 3]`.
            initial: noise of the initial slots, `[B, K, Z]`.
            noise: of each layer's sample, `[L, B, K, Z]`.

        Returns:
            lam of every layer `[L, B, K, 2, Z]`, and its attention `[L, B, K, H W]`.
        """
        tokens = self.encoder(2 * inputs - 1).astype(jnp.float32)
        k, v = self.layer.to_k(tokens), self.layer.to_v(tokens)
        lam = jnp.broadcast_to(self.posterior[...], (*initial.shape[:2], *self.posterior.shape))

        def up(carry: tuple[Array, Array], noise: Array) -> tuple[tuple, tuple]:
            lam, attention = self.layer(*carry, k, v)
            return (lam, _sample(lam, noise)), (lam, attention)

        return jax.lax.scan(up, (lam, _sample(lam, initial)), noise)[1]

    def hierarchical_kl(self, below: Array, lam: Array, noise: Array) -> tuple[Array, Gaussian]:
        """KL of every layer to its prior given a fresh sample of the layer above.

        Args:
            below: posteriors of all layers but the top, `[L - 1, B, K, 2, Z]`.
            lam: of the top layer, `[B, K, 2, Z]`, whose prior is N(0, 1).
            noise: of the samples of layers L, ..., 2, `[L - 1, B, K, Z]`.

        Returns:
            The KLs of layers 1, ..., L, `[L, B, K]`, and the prior of layer 1.
        """
        loc, std = _gaussian(lam)
        prior = (jnp.zeros_like(loc), jnp.ones_like(std))
        kls = [normal_kl(loc, std, *prior).sum(axis=-1)]
        above = lam
        for lam, epsilon in zip(below[::-1], noise, strict=True):
            prior = self.prior(_sample(above, epsilon))
            kls.append(normal_kl(*_gaussian(lam), *prior).sum(axis=-1))
            above = lam
        return jnp.stack(kls[::-1]), prior

    def kl_of_iterations(self, posteriors: Array, noise: Array) -> KL:
        """The KL of iteration i, a function of i and of the posterior then.

        It is that of the whole hierarchy for i = 0. Afterwards it is that of what is refined to
        the prior of layer 1, as i = 0 had it.

        Args:
            posteriors: of all layers, `[L, B, K, 2, Z]`.
            noise: see `hierarchical_kl`.
        """
        below = posteriors[:-1]
        _, prior = self.hierarchical_kl(below, posteriors[-1], noise)

        def kl(i: int | Array, lam: Array) -> Array:
            return jax.lax.cond(
                jnp.equal(i, 0),
                lambda lam: self.hierarchical_kl(below, lam, noise)[0].sum(axis=(0, 2)),
                lambda lam: normal_kl(*_gaussian(lam), *prior).sum(axis=(1, 2)),
                lam,
            )

        return kl

    def refine(
        self,
        inputs: Array,
        lam: Array,
        noise: Array,
        kl: KL,
        weights: Weights,
        stop: Array | None,
        keep_logits: bool,
    ) -> tuple[Array, tuple[Array, Array, Array | None]]:
        """Moves a posterior once for each noise.

        Args:
            inputs: images `[B, H, W, 3]`.
            lam: `[B, K, 2, Z]`.
            noise: `[I, B, K, Z]`.
            kl, weights: see `differentiate`.
            stop: a traced number: iterations from this one on are left out.
            keep_logits: of the masks, for each iteration.

        Returns:
            The last posterior, and nll `[I, B]`, kl `[I, B]` and logits `[I, B, K, H, W]` of the
            scenes before it; of iterations left out, zeros.
        """

        def iterate(carry: tuple, i: Array, noise: Array) -> tuple[tuple, tuple]:
            lam, h = carry
            decoded, gradient = self.differentiate(
                inputs, lam, noise, functools.partial(kl, i), weights
            )
            step, h = self.refinement(lam, gradient, h)
            logits = decoded.logits if keep_logits else None
            return (lam + step, h), (decoded.nll, decoded.kl, logits)

        # Of an iteration, the backward pass keeps what it would take a gradient to compute again.
        keep = jax.checkpoint_policies.save_only_these_names("gradient")
        iterate = jax.checkpoint(iterate, policy=keep)

        def leave_out(carry: tuple, i: Array, noise: Array) -> tuple[tuple, tuple]:
            del i
            nothing = jnp.zeros(len(noise))
            logits = jnp.zeros((*noise.shape[:2], *inputs.shape[1:3])) if keep_logits else None
            return carry, (nothing, nothing, logits)

        def body(carry: tuple, x: tuple) -> tuple[tuple, tuple]:
            if stop is None:
                return iterate(carry, *x)
            return jax.lax.cond(x[0] < stop, iterate, leave_out, carry, *x)

        carry = (lam, jnp.zeros(noise.shape[1:]))
        (lam, _), found = jax.lax.scan(body, carry, (jnp.arange(len(noise)), noise))
        return lam, found

    def render(self, z: Array, height: int, width: int) -> tuple[Array, Array]:
        """Slots `[B, K, Z]` to means `[B, K, H, W, 3]` and mask logits `[B, K, H, W]`, float32."""
        maps = self.decoder(z, height, width).astype(jnp.float32)
        return jax.nn.sigmoid(maps[..., :3]), maps[..., 3]

    def decode(
        self, inputs: Array, lam: Array, noise: Array, kl: Callable[[Array], Array]
    ) -> Decoded:
        """A scene from the posterior lam, with noise `[B, K, Z]`; kl of lam is `[B]`."""
        z = _sample(lam, noise)
        means, logits = self.render(z, *inputs.shape[1:3])
        return Decoded(z, means, logits, self.nll(inputs, means, logits), kl(lam))

    def differentiate(
        self,
        inputs: Array,
        lam: Array,
        noise: Array,
        kl: Callable[[Array], Array],
        weights: Weights,
    ) -> tuple[Decoded, Array]:
        """A decoded scene, and the gradient of its loss with respect to lam, `[B, K, 2, Z]`.

        No gradient passes through that.
        """

        def loss(lam: Array) -> tuple[Array, Decoded]:
            decoded = self.decode(inputs, lam, noise, kl)
            total = jnp.sum(weights.nll * decoded.nll + weights.kl * decoded.kl)
            return total / (self.gradient_batch or len(inputs)), decoded

        gradient, decoded = jax.grad(loss, has_aux=True)(lam)
        return decoded, checkpoint_name(jax.lax.stop_gradient(gradient), "gradient")

    def nll(self, inputs: Array, means: Array, logits: Array) -> Array:
        """-log p(inputs | means, logits) without the Gaussian's constant, `[B]`."""
        std = jnp.float32(self.std)
        if self.likelihood == "gaussian":
            recon = composite(jax.nn.softmax(logits, axis=1), means)
            log_prob = normal_log_prob(inputs, recon, std) + LOG_2_PI / 2
        else:
            log_masks = jax.nn.log_softmax(logits, axis=1)[..., None]
            joint = log_masks + normal_log_prob(inputs[:, None], means, std) + LOG_2_PI / 2
            log_prob = jax.nn.logsumexp(joint, axis=1)
        return -jnp.sum(log_prob, axis=(1, 2, 3))

    def _check(self, inputs: Array, num_slots: int, num_iterations: int | Array) -> None:
        if inputs.ndim != 4 or inputs.shape[-1] != 3:
            raise ValueError(f"images have shape {inputs.shape}; the model takes [B, H, W, 3].")
        if num_slots < 1:
            raise ValueError(f"{num_slots=}: the model needs at least 1 slot.")
        if not isinstance(num_iterations, jax.Array) and num_iterations < 0:
            raise ValueError(f"{num_iterations=} is negative; 0 leaves out the refinement.")


def _layer_norm(features: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(features, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


def _standardized(x: Array) -> Array:
    """A layer norm over the last axis without scale and bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)


def _std(raw: Array) -> Array:
    return jnp.sqrt(jax.nn.softplus(jnp.minimum(raw, 80.0)) + 1e-5)


def _gaussian(lam: Array) -> Gaussian:
    """Posteriors `[..., 2, Z]` as means and standard deviations `[..., Z]`."""
    return lam[..., 0, :], _std(lam[..., 1, :])


def _sample(lam: Array, noise: Array) -> Array:
    loc, std = _gaussian(lam)
    return loc + std * noise
