"""Slot Attention (arXiv 2006.15055, algorithm 1) with the aggregations of arXiv 2407.04170.

B images have N inputs of D features and K slots of S features; A are the attention weights, u what
a slot receives from the inputs.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.layers.gru import GRU
from akorn_jax.layers.noise import Noise

Array = jax.Array

AGGREGATIONS = (
    "mean",
    "layer_norm",
    "scalar_batch_norm",
    "constant",
    "none",
    "scaled_mean",
    "image_level",
)
GRADIENTS = ("unrolled", "implicit")
EPSILON = 1e-5  # of all norms
MOMENTUM = 0.1  # of the running statistics

layer_norm = functools.partial(nnx.LayerNorm, epsilon=EPSILON, use_fast_variance=False)
glorot = nnx.initializers.glorot_uniform()


class ScalarNorm(nnx.Module):
    """gamma (u - mean) / sqrt(variance + 1e-5) + beta, where all four are scalars for all of u."""

    def __init__(self) -> None:
        self.gamma = nnx.Param(jnp.ones(()))
        self.beta = nnx.Param(jnp.zeros(()))

    def __call__(self, u: Array, mean: Array, variance: Array) -> Array:
        return self.gamma[...] * (u - mean) * jax.lax.rsqrt(variance + EPSILON) + self.beta[...]


class ScalarBatchNorm(ScalarNorm):
    """A `ScalarNorm` with running statistics over batches, for evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nnx.BatchStat(jnp.zeros(()))
        self.variance = nnx.BatchStat(jnp.ones(()))

    def observe(self, u: Array) -> tuple[Array, Array]:
        """The statistics of u `[B, K, S]` over all axes, which also move the running ones.

        The batch may be sharded: under jit a mean is a mean over all devices.
        """
        mean, variance = jnp.mean(u), jnp.var(u)
        for running, observed in ((self.mean, mean), (self.variance, variance)):
            observed = jax.lax.stop_gradient(observed)
            running[...] = (1 - MOMENTUM) * running[...] + MOMENTUM * observed
        return mean, variance


class SlotAttention(nnx.Module):
    """Slots compete for inputs, gather what they win and update themselves, T times.

    Neither slots nor iterations have parameters of their own, so both numbers may change at every
    call.

    Args:
        in_features: D.
        slot_size: S.
        hidden_size: of the residual MLP.
        num_iterations: T, unless the call says otherwise.
        num_slots: K of the training, which "scaled_mean" needs.
        aggregation: how u is made of the values v:
            "mean": weighted mean, the paper's; it forgets how many inputs a slot has won.
            "constant": weighted sum over N, "none": weighted sum.
            "layer_norm": weighted sum, normalised over the features.
            "scalar_batch_norm": weighted sum, normalised by scalar statistics of the batch, which
            are those of the first iteration in all iterations.
            "image_level": weighted sum, normalised by scalar statistics of the image.
            "scaled_mean": weighted mean times K of the training over K now.
        gradient: "unrolled" through all iterations, or "implicit" through the last alone
            (arXiv 2207.00787, first term of the Neumann series): memory is constant in T, and what
            the initial slots are drawn from is not trained.
        use_bias: give queries, keys and values a bias.
    """

    def __init__(
        self,
        in_features: int,
        slot_size: int,
        *,
        hidden_size: int,
        num_iterations: int = 3,
        num_slots: int | None = None,
        aggregation: str = "mean",
        gradient: str = "unrolled",
        use_bias: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"{aggregation=} is unknown; it is one of {', '.join(AGGREGATIONS)}.")
        if gradient not in GRADIENTS:
            raise ValueError(f"{gradient=} is unknown; it is one of {', '.join(GRADIENTS)}.")
        if aggregation == "scaled_mean" and num_slots is None:
            raise ValueError(f"{aggregation=} needs num_slots, the number of slots in training.")
        dense = functools.partial(nnx.Linear, kernel_init=glorot, rngs=rngs)
        self.num_iterations = num_iterations
        self.num_slots = num_slots
        self.aggregation = aggregation
        self.gradient = gradient
        self.mu = nnx.Param(glorot(rngs.params(), (1, slot_size)))
        self.log_sigma = nnx.Param(glorot(rngs.params(), (1, slot_size)))
        self.norm_inputs = layer_norm(in_features, rngs=rngs)
        self.norm_slots = layer_norm(slot_size, rngs=rngs)
        self.norm_mlp = layer_norm(slot_size, rngs=rngs)
        self.to_q = dense(slot_size, slot_size, use_bias=use_bias)
        self.to_k = dense(in_features, slot_size, use_bias=use_bias)
        self.to_v = dense(in_features, slot_size, use_bias=use_bias)
        self.gru = GRU(slot_size, rngs=rngs)
        self.mlp_hidden = dense(slot_size, hidden_size)
        self.mlp_out = dense(hidden_size, slot_size)
        if aggregation == "layer_norm":
            self.norm_updates = layer_norm(slot_size, rngs=rngs)
        elif aggregation == "scalar_batch_norm":
            self.norm_updates = ScalarBatchNorm()
        elif aggregation == "image_level":
            self.norm_updates = ScalarNorm()

    def sample_slots(self, key: Array | Noise, batch_size: int, num_slots: int) -> Array:
        """Initial slots `[B, K, S]`, independent draws from one learned Gaussian."""
        noise = Noise.of(key).normal((batch_size, num_slots, self.mu.shape[-1]))
        return self.mu[...] + jnp.exp(self.log_sigma[...]) * noise

    def __call__(
        self,
        inputs: Array,
        slots: Array,
        *,
        num_iterations: int | None = None,
        train: bool = False,
        trajectory: bool = False,
    ) -> tuple[Array, Array]:
        """Refines slots.

        Args:
            inputs: `[B, N, D]`.
            slots: `[B, K, S]`, the initial slots.
            num_iterations: T, at least 1.
            train: use and record the statistics of this batch instead of the running ones
                (aggregation "scalar_batch_norm"; the others do not ask).
            trajectory: keep the attention of every iteration.

        Returns:
            Slots `[B, K, S]` and the attention of the last iteration `[B, K, N]` or, with
            `trajectory`, of all iterations `[T, B, K, N]`; it sums to 1 over the slots. Both
            float32.
        """
        T = self.num_iterations if num_iterations is None else num_iterations
        if T < 1:
            raise ValueError(f"num_iterations={T}: slots need at least 1 iteration.")
        implicit = self.gradient == "implicit"
        slots = slots.astype(jnp.float32)
        inputs = self.norm_inputs(inputs)
        k, v = self.to_k(inputs), self.to_v(inputs)
        statistics = self._batch_statistics(slots, k, v, train)
        if implicit and T > 1:  # the statistics belong to the first iteration
            statistics = jax.lax.stop_gradient(statistics)

        def iterate(slots: Array, _: None) -> tuple[Array, Array | None]:
            slots, attention = self.step(slots, k, v, statistics)
            return slots, attention if trajectory else None

        before_last = jax.lax.scan(iterate, slots, length=T - 1)
        slots, earlier = jax.lax.stop_gradient(before_last) if implicit else before_last
        slots, attention = self.step(slots, k, v, statistics)
        return slots, jnp.concatenate([earlier, attention[None]]) if trajectory else attention

    def on_map(
        self,
        features: Array,
        *,
        key: Array | Noise | None,
        slots: Array | None,
        num_slots: int | None,
        num_iterations: int | None,
        train: bool,
        trajectory: bool,
    ) -> tuple[Array, Array]:
        """As a model calls it: `__call__` on a feature map, from slots that are drawn if not given.

        Args:
            features: `[B, h, w, D]`.
            key: draws the initial slots; not used when `slots` are given.
            slots: initial slots `[B, K, S]`.
            num_slots: K to draw, unless that of the training.
            num_iterations, train, trajectory: see `__call__`.

        Returns:
            Slots `[B, K, S]` and the attention of the last iteration `[B, K, h, w]` or, with
            `trajectory`, of all iterations `[T, B, K, h, w]`.
        """
        B, h, w, D = features.shape
        if slots is None:
            if key is None:
                raise ValueError("The initial slots are random: give `key`, or `slots` themselves.")
            slots = self.sample_slots(key, B, self.num_slots if num_slots is None else num_slots)
        slots, attention = self(
            features.reshape(B, h * w, D),
            slots,
            num_iterations=num_iterations,
            train=train,
            trajectory=trajectory,
        )
        return slots, attention.reshape(*attention.shape[:-1], h, w)

    def step(
        self, slots: Array, k: Array, v: Array, statistics: tuple[Array, Array] | None
    ) -> tuple[Array, Array]:
        """Slots `[B, K, S]`, keys and values `[B, N, S]` to the next slots and A `[B, K, N]`."""
        attention = self.attend(slots, k)
        updates = self.aggregate(attention, v, statistics)
        slots = self.gru(updates, slots)
        slots = slots + self.mlp_out(jax.nn.relu(self.mlp_hidden(self.norm_mlp(slots))))
        return slots, attention

    def attend(self, slots: Array, k: Array) -> Array:
        """A `[B, K, N]`: a softmax over the slots, which therefore compete."""
        q = self.to_q(self.norm_slots(slots)) * slots.shape[-1] ** -0.5
        return jax.nn.softmax(jnp.einsum("bks,bns->bkn", q, k), axis=1)

    def aggregate(
        self, attention: Array, v: Array, statistics: tuple[Array, Array] | None
    ) -> Array:
        """u `[B, K, S]`."""
        if self.aggregation in ("mean", "scaled_mean"):
            attention = attention + 1e-8
            u = weighted_sum(attention / attention.sum(axis=-1, keepdims=True), v)
            return u * self.num_slots / u.shape[1] if self.aggregation == "scaled_mean" else u
        u = weighted_sum(attention, v)
        match self.aggregation:
            case "constant":
                return u / v.shape[1]
            case "layer_norm":
                return self.norm_updates(u)
            case "scalar_batch_norm":
                return self.norm_updates(u, *statistics)
            case "image_level":
                axes = {"axis": (1, 2), "keepdims": True}
                return self.norm_updates(u, jnp.mean(u, **axes), jnp.var(u, **axes))
        return u

    def _batch_statistics(
        self, slots: Array, k: Array, v: Array, train: bool
    ) -> tuple[Array, Array] | None:
        if self.aggregation != "scalar_batch_norm":
            return None
        if not train:
            return self.norm_updates.mean[...], self.norm_updates.variance[...]
        # The first iteration attends a second time inside the loop, where no state may change.
        return self.norm_updates.observe(weighted_sum(self.attend(slots, k), v))


def weighted_sum(weights: Array, v: Array) -> Array:
    """Weights `[B, K, N]` and values `[B, N, S]` to `[B, K, S]`."""
    return jnp.einsum("bkn,bns->bks", weights, v)
