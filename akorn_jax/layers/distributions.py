"""Densities, divergences and relaxed samples, elementwise and in stable forms.

All is elementwise, but for `total`: a model sums over pixels and latents as its paper does.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from akorn_jax.layers.noise import Noise

Array = jax.Array

LOG_2_PI = float(np.log(2 * np.pi))
# Least and largest values: probabilities whose logits float32 can tell, deviations, temperatures.
PROBABILITY, POSITIVE = (1e-6, 1 - 1e-6), (1e-6, float("inf"))


class Normal(NamedTuple):
    """Independent normal distributions; `normal_kl(*q, *p)` takes two of them."""

    mean: Array
    std: Array

    @classmethod
    def of(cls, raw: Array, floor: float = 0.0) -> "Normal":
        """From a network's output `[..., 2 D]`: means, then deviations before their softplus.

        Args:
            raw: the output.
            floor: added to the deviations.
        """
        mean, std = jnp.split(raw, 2, axis=-1)
        return cls(mean, jax.nn.softplus(std) + floor)


def normal_log_prob(x: Array, mean: Array, std: Array) -> Array:
    """log N(x; mean, std^2), elementwise."""
    return -0.5 * (((x - mean) / std) ** 2 + LOG_2_PI) - jnp.log(std)


def normal_kl(mean: Array, std: Array, prior_mean: Array = 0.0, prior_std: Array = 1.0) -> Array:
    """KL(N(mean, std^2) || N(prior_mean, prior_std^2)), elementwise."""
    ratio = (std / prior_std) ** 2
    distance = ((mean - prior_mean) / prior_std) ** 2
    return 0.5 * (ratio + distance - 1 - jnp.log(ratio))


def normal_sample(mean: Array, std: Array, noise: Noise) -> Array:
    """A reparameterised draw of N(mean, std^2)."""
    return mean + std * noise.normal(jnp.broadcast_shapes(mean.shape, std.shape))


def mixture_log_prob(
    x: Array, log_weights: Array, means: Array, std: Array, axis: int = 1
) -> Array:
    """log of sum_k weights_k N(x; means_k, std^2), where component k lies along `axis`.

    Args:
        x: with a length of 1 along `axis`.
        log_weights: broadcasts against means.
        means: e.g. `[B, K, H, W, C]`.
        std: broadcasts against means.

    Returns:
        The shape of the mixture without `axis`.
    """
    joint = log_weights + normal_log_prob(x, means, std)
    return jax.nn.logsumexp(joint, axis=axis)


def bernoulli_kl(logits: Array, prior_logits: Array) -> Array:
    """KL(Bernoulli(sigmoid(logits)) || Bernoulli(sigmoid(prior_logits))), elementwise.

    Finite for finite logits, however sure they are. A prior that is given as a probability p has
    the logit `jax.scipy.special.logit(p)`.
    """
    q = jax.nn.sigmoid(logits)
    odds = q * (logits - prior_logits)
    return odds + jax.nn.softplus(prior_logits) - jax.nn.softplus(logits)


def logistic_noise(u: Array) -> Array:
    """Uniform numbers in [0, 1] to draws of the standard logistic distribution.

    The ends are moved inwards by float32's epsilon, to +-15.9, as in PyTorch.
    """
    eps = float(jnp.finfo(jnp.float32).eps)
    u = jnp.clip(u, eps, 1 - eps)
    return jnp.log(u) - jnp.log1p(-u)


def relaxed_bernoulli_logits(logits: Array, temperature: Array, noise: Noise) -> Array:
    """A draw of the relaxed Bernoulli (arXiv 1611.00712) before its sigmoid, elementwise."""
    return (logits + logistic_noise(noise.uniform(logits.shape))) / temperature


def relaxed_bernoulli(logits: Array, temperature: Array, noise: Noise) -> Array:
    """A draw of the relaxed Bernoulli in (0, 1), differentiable in its logits."""
    return jax.nn.sigmoid(relaxed_bernoulli_logits(logits, temperature, noise))


def total(x: Array) -> Array:
    """Sums `[B, ...]` over all but the first axis: one number per image, `[B]`."""
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))
