"""DTI-Sprites' training (arXiv 2104.14575): autoencoding, and sprites that nobody uses start again.

Letters: L layers, S sprites, K choices (the sprites and, where there is one, the empty sprite).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from akorn_jax.errors import UserError
from akorn_jax.outputs import ModelOutput
from akorn_jax.runtime.tree_paths import by_name, edit
from akorn_jax.tasks import autoencoding, base

Array = jax.Array
PyTree = Any

# Paths of the model's parameters that belong to single sprites.
COLORS, MASKS, REGRESSORS = "sprites", "masks", "sprite_transformations/"


class Task(autoencoding.Task):
    """Autoencoding by sprites, some of which are replaced every few hundred steps.

    A sprite that its layer hardly ever chooses becomes a copy of the one that it chooses most, with
    regressors and moments of the optimizer, and grows apart from it by a little noise.

    Args:
        num_layers: L of the model.
        num_choices: K of the model.
        weights, options: see `autoencoding.Task`.
        mean_background: start the background as the mean of the first batch.
        reassign_every: steps from one look at the usages to the next; one random layer is looked
            at. Nothing is replaced while the option "learn_sprites" is 0.
        min_usage: of a sprite, times 1 / S of the most used one's; below that it is replaced.
        color_noise: standard deviation of what is added to the copies' colours.
    """

    evaluators = ("segmentation", "sprites")

    def __init__(
        self,
        *,
        num_layers: int,
        num_choices: int,
        weights: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        mean_background: bool = True,
        reassign_every: int = 250,
        min_usage: float = 0.2,
        color_noise: float = 1e-4,
    ) -> None:
        super().__init__(weights=weights, options=options)
        self.shape = (num_layers, num_choices)
        self.mean_background = mean_background
        self.reassign_every = reassign_every
        self.min_usage = min_usage
        self.color_noise = color_noise

    def init_state(self) -> PyTree:
        """How often each layer chose each sprite since the last look, summed over steps."""
        return {"chosen": jnp.zeros(self.shape), "steps": jnp.zeros(())}

    def init_model(self, model: nnx.Module, batch: Mapping[str, Array]) -> None:
        """Starts the background as the mean of the first batch, if it is to."""
        if self.mean_background:
            model.init_background(jnp.asarray(batch[self.inputs], jnp.float32) / 255)

    def extra(self, output: ModelOutput, terms: Mapping[str, Array]) -> PyTree:
        """How often each layer chose each sprite in this batch, `[L, K]`.

        Raises:
            UserError: the task was told other numbers than the model's.
        """
        del terms
        chosen = jnp.mean(output.slots[:, 1:], axis=0)
        if chosen.shape != self.shape:
            raise UserError(
                f"config.task: num_layers, num_choices = {self.shape}, but the model has "
                f"{chosen.shape}; choices count the empty sprite."
            )
        return chosen

    def after_step(self, state: PyTree, aux: base.Aux, key: Array) -> PyTree:
        """Counts choices and, when it is time, replaces sprites."""
        layer_key, noise_key = jax.random.split(key)
        due = state.step % self.reassign_every == 0
        options = self.options(base.Context(state.step, key, train=True))
        learning = options.get("learn_sprites", jnp.ones(())) > 0.5
        chosen = state.task["chosen"] + aux.extra
        steps = state.task["steps"] + 1
        S = len(by_name(state.params)[COLORS])
        layer = jax.random.randint(layer_key, (), 0, self.shape[0])
        source, changed = reassignment(chosen[layer, :S] / steps, self.min_usage / S)
        state = jax.lax.cond(
            due & learning & changed.any(),
            lambda state: restart(state, source, changed, self.color_noise, noise_key),
            lambda state: state,
            state,
        )
        counts = {"chosen": chosen, "steps": steps}
        counts = jax.tree.map(lambda count: jnp.where(due, 0.0, count), counts)
        return dataclasses.replace(state, task=counts)


def reassignment(usage: Array, threshold: float) -> tuple[Array, Array]:
    """What each sprite becomes a copy of.

    Args:
        usage: `[S]`, how often each sprite is chosen.
        threshold: share of the largest usage below which a sprite is replaced.

    Returns:
        source `[S]` int32, the sprite itself or the most used one; changed `[S]`, whether its
        colours get noise: those replaced and, if there are any, the one they are copies of.
    """
    most = jnp.argmax(usage)
    replaced = usage < threshold * usage[most]
    everyone = jnp.arange(len(usage))
    source = jnp.where(replaced, most, everyone)
    return source, replaced | (replaced.any() & (everyone == most))


def restart(state: PyTree, source: Array, changed: Array, color_noise: float, key: Array) -> PyTree:
    """Makes sprites copies of others: colours, masks, regressors and their moments.

    The moments of the colours stay, as in the official code, which also lets the moments of two
    regressors be one and the same array from then on; here they are copies.

    Args:
        state: a `training.train_state.TrainState`.
        source, changed: `[S]`, see `reassignment`.
        color_noise: see `Task`.
        key: draws it.
    """
    colors = by_name(state.params)[COLORS]
    noise = color_noise * changed[:, None, None, None] * jax.random.normal(key, colors.shape)

    def copied_colors(colors: Array) -> Array:
        return colors[source] + noise

    def copied_regressors(array: Array) -> Array:
        beyond = jnp.arange(len(source), array.shape[1])  # the empty sprite's stay
        return array[:, jnp.concatenate([source, beyond])]

    state = dataclasses.replace(
        state,
        params=edit(state.params, COLORS, copied_colors),
        ema=edit(state.ema, COLORS, copied_colors),
    )
    state = edit(state, MASKS, lambda masks: masks[source])
    for name in by_name(state.params):
        if name.startswith(REGRESSORS):
            state = edit(state, name, copied_regressors)
    return state
