"""Agglomerator against tensors of mmlab-cv/Agglomerator, and SupCon against its loss.

Kinds of files: `g_agg*train*` (optimizer steps), other `g_agg*` (one model: evaluation, one
contrastive and one supervised step), `g_consensus*`, `g_supcon*`, `g_onecycle*`.
"""

import ast
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax import losses
from akorn_jax.convert import load_official, to_official
from akorn_jax.models.agglomerator import Model, consensus, neighbours, weighted_mean
from akorn_jax.optimizer import schedules
from configs import base
from configs.families import agglomerator
from tests.parity.tensors import (
    Recorded,
    below,
    empty,
    files,
    float64,
    last,
    literal,
    read,
    relative,
)

ALL = files("agglomerator", "g_*.npz")


def kind(path):
    name = path.stem
    if name.startswith("g_agg"):
        return "train" if "train" in name else "model"
    return name.removeprefix("g_").split("_")[0]


def of_kind(wanted):
    return [pytest.param(path, id=path.stem) for path in ALL if kind(path) == wanted]


def test_every_file_is_of_a_known_kind():
    assert {kind(path) for path in ALL} <= {"model", "train", "consensus", "supcon", "onecycle"}


# --- files and models


def stated(arrays):
    """All options that a file states, in whatever literal."""
    options = {}
    for array in arrays.values():
        if array.dtype.kind == "U" and array.shape == ():
            value = ast.literal_eval(str(array))
            options |= value if isinstance(value, dict) else {}
    return options


def radius_of(mask):
    """The radius that a mask of blocked pairs `[1, N, N]` was made with."""
    side = math.isqrt(mask.shape[-1])
    places = np.indices((side, side)).reshape(2, -1)
    distance = np.linalg.norm(places[:, :, None] - places[:, None], axis=0)
    return float(distance[~mask[0]].max())


def attends_to_itself(arrays, near):
    """Where a file does not state it, its attention tells: of the two the one that comes closer."""
    if "eval/consensus_weights_last" not in arrays:
        return False
    X = np.moveaxis(arrays["eval/states"][-2], 2, 0)
    expected = arrays["eval/consensus_weights_last"].swapaxes(0, 1)
    errors = [relative(consensus(X, near, itself), expected) for itself in (False, True)]
    return errors[1] < errors[0]


def build(arrays):
    options = stated(arrays)
    num_levels, num_steps = options["levels"], options["iters"] or 2 * options["levels"]
    head_step = options["denoise_iter"] % (num_steps + 1)
    mask = arrays.get("param/attention.non_local_mask")
    radius = options.get("local_consensus_radius") or (0 if mask is None else radius_of(mask))
    near = None if mask is None else ~mask[0]
    itself = options.get("consensus_self", options.get("attend_self"))
    itself = attends_to_itself(arrays, near) if itself is None else itself
    model = empty(
        lambda: Model(
            image_size=options["image_size"],
            num_colors=options["n_channels"],
            patch_size=options["patch_size"],
            channels=options["patch_dim"],
            num_levels=num_levels,
            num_steps=num_steps,
            head_step=None if head_step == num_steps else head_step,
            radius=radius,
            attend_self=itself,
            dropout=options["dropout"],
            embedding_size=options["contr_dim"],
            num_classes=options["n_classes"],
            mean=0.0,
            std=1.0,
            rngs=nnx.Rngs(0),
        )
    )
    load_official(model, below(arrays, "param/"))
    return model, options


def draws(arrays, prefix):
    """Recorded masks as uniform draws, in the order of the head's layers; None without dropout."""
    masks = below(arrays, prefix)
    order = sorted(masks, key=lambda name: int(name.rpartition(".")[2]))
    return [masks[name].astype(np.float32) for name in order] or None


def noise_of(recorded):
    return None if recorded is None else Recorded(recorded)


def contrastive_loss(output, labels, temperature):
    """Of an output whose first half is the first view, the second half the second."""
    z = output.embedding.reshape(2, -1, output.embedding.shape[-1]).swapaxes(0, 1)
    return losses.sup_con(z, labels, temperature=temperature, base_temperature=0.07)


def both_views(arrays):
    return np.concatenate([last(arrays["in/view1"]), last(arrays["in/view2"])], axis=-4)


def thin(array, arrays):
    """What the files keep of gradients and final weights."""
    return array.reshape(-1)[:: int(arrays["sub"])] if array.size > 1200 else array


def assert_buffers(model, arrays, prefix):
    expected = below(arrays, prefix)
    assert expected
    ours = to_official(model)
    for name, array in expected.items():
        if not name.endswith("num_batches_tracked"):
            assert relative(ours[name], array) < 1e-5, name


# --- one model


class Case:
    """A file, its model, and what the model computes from it, each compiled once."""

    def __init__(self, path):
        self.arrays = read(path)
        self.model, self.options = build(self.arrays)
        self.split = nnx.split(self.model, nnx.Param, ...)

    def evaluate(self, images):
        if not hasattr(self, "_evaluate"):
            graphdef, *state = self.split
            self._evaluate = jax.jit(
                lambda images: nnx.merge(graphdef, *state)(images, trajectory=True)
            )
        return self._evaluate(images)


@pytest.fixture(scope="module", params=of_kind("model"))
def case(request):
    return Case(request.param)


def test_evaluation(case):
    arrays = case.arrays
    output = case.evaluate(last(arrays["in/view1"]))
    states = output.trajectory["levels"][0]  # [T, B, h, w, L, d]
    T, B, h, w, L, d = states.shape
    states = states.reshape(T, B, h * w, L, d)
    assert relative(states, arrays["eval/states"][1:]) < 1e-5
    assert relative(states[-1, 0], arrays["eval/levels_item0"]) < 1e-5
    assert relative(output.features.reshape(B, h * w, d), states[-1, :, :, -1]) == 0
    assert relative(output.embedding, arrays["eval/feature"]) < 1e-5
    assert relative(output.logits, arrays["eval/class_logits"]) < 1e-5
    both = case.evaluate(both_views(arrays))
    loss = contrastive_loss(both, arrays["in/labels"], case.options["temperature"])
    np.testing.assert_allclose(loss, arrays["eval/contrastive_loss"], rtol=1e-5)
    # The islands plot: any two linear features of the last levels, as a radius.
    projected = states[-1, 0] @ arrays["in/island_weight"].T + arrays["in/island_bias"]
    radius = np.linalg.norm(projected, axis=-1).T.reshape(L, h, w)
    assert relative(radius, arrays["islands/radius"]) < 1e-5


def test_contributions_of_each_step(case):
    arrays, model = case.arrays, case.model
    images = last(arrays["in/view1"])
    tokens = jax.jit(lambda images: model._tokens(images, train=False))(images)
    tokens = tokens.reshape(arrays["eval/tokens"].shape)
    assert relative(tokens, arrays["eval/tokens"]) < 1e-5
    X = np.moveaxis(arrays["eval/states"], 3, 1)  # [T + 1, L, B, N, d]
    initial = np.broadcast_to(model.initial_levels[...][:, None, None], X[0].shape)
    assert relative(initial, X[0]) == 0
    near = neighbours(model.grid_size, model.radius) if model.radius else None

    @jax.jit
    @jax.vmap
    def of_step(X):
        return *model.messages(tokens, X), weighted_mean(consensus(X, near, model.attend_self), X)

    from_below, from_above, from_peers = of_step(X[:-1])
    for ours, name in (
        (from_below, "bottom_up"),
        (from_above, "top_down"),
        (from_peers, "consensus"),
    ):
        assert relative(np.moveaxis(ours, 1, 3), arrays[f"eval/{name}"]) < 2e-5, name
    weights = consensus(X[-2], near, model.attend_self).swapaxes(0, 1)
    assert relative(weights, arrays["eval/consensus_weights_last"]) < 1e-5


def test_contrastive_step(case):
    arrays = case.arrays
    graphdef, params, rest = case.split
    recorded = draws(arrays, "drop/")

    def loss(params, images, recorded):
        model = nnx.merge(graphdef, params, rest, copy=True)
        output = model(images, key=noise_of(recorded), train=True, trajectory=True)
        value = contrastive_loss(output, arrays["in/labels"], case.options["temperature"])
        return value, (output, nnx.state(model))

    value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, (output, after)), grads = value_and_grad(params, both_views(arrays), recorded)
    np.testing.assert_allclose(value, arrays["train/loss"], rtol=2e-5)
    states = output.trajectory["levels"][0][-1]
    expected = arrays["train/states_last"]
    assert relative(states.reshape(expected.shape), expected) < 1e-5
    assert_buffers(nnx.merge(graphdef, after), arrays, "train/after/")

    ours = to_official(nnx.merge(graphdef, grads, rest))
    without = set(np.atleast_1d(arrays["train/no_grad"]).tolist())
    expected = below(arrays, "train/grad/")
    assert without and expected  # noqa: PT018
    for name in without:
        assert not ours[name].any(), name
    for name, gradient in expected.items():
        # Where columns are nearly equal, float32 is noise, PyTorch's more than ours: float64 is the
        # oracle there.
        precise = arrays.get(f"train/grad_float64/{name}")
        tolerance, gradient = (2e-4, gradient) if precise is None else (1e-3, precise)
        assert relative(thin(ours[name], arrays), gradient) < tolerance, name
    for name, norm in below(arrays, "train/gradnorm/").items():
        np.testing.assert_allclose(np.linalg.norm(ours[name]), norm, rtol=1e-4)


def test_supervised_step(case):
    """The classifier alone is trained; as published, the backbone stays in training mode."""
    arrays = case.arrays
    graphdef, params, rest = case.split

    def loss(params, images, recorded):
        model = nnx.merge(graphdef, params, rest, copy=True)
        output = model(images, key=noise_of(recorded), train=True)
        logits = model.classifier(jax.lax.stop_gradient(output.embedding))
        value = losses.cross_entropy(logits, arrays["in/labels"]).mean()
        return value, (output, logits, nnx.state(model))

    value_and_grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
    recorded = draws(arrays, "drop_sup/")
    (value, (output, logits, after)), grads = value_and_grad(
        params, last(arrays["in/view1"]), recorded
    )
    np.testing.assert_allclose(value, arrays["sup/loss"], rtol=1e-5)
    assert relative(output.embedding, arrays["sup/feature"]) < 1e-5
    assert relative(logits, arrays["sup/logits"]) < 1e-5
    correct = np.argmax(logits, axis=-1) == arrays["in/labels"]
    np.testing.assert_allclose(100 * correct.mean(), arrays["sup/accuracy"], rtol=1e-5)
    assert_buffers(nnx.merge(graphdef, after), arrays, "sup/after/")
    ours = to_official(nnx.merge(graphdef, grads, rest))
    for name, gradient in below(arrays, "sup/grad/").items():
        assert relative(thin(ours[name], arrays), gradient) < 1e-4, name
    for name in np.atleast_1d(arrays["sup/no_grad"]).tolist():
        assert not ours[name].any(), name


def test_features_of_a_test_set(case):
    arrays = case.arrays
    for batch, view in enumerate(("view1", "view2")):
        output = case.evaluate(last(arrays[f"in/{view}"]))
        assert relative(output.embedding, arrays["freeze/features"][batch]) < 1e-5
        labels = arrays["freeze/labels"][batch]
        loss = losses.cross_entropy(output.logits, labels).mean()
        np.testing.assert_allclose(loss, arrays["freeze/loss"][batch], rtol=1e-5)


def test_weights_return_unchanged(case):
    official = below(case.arrays, "param/")
    returned = to_official(case.model)
    assert returned.keys() == official.keys()
    for name, array in official.items():
        np.testing.assert_array_equal(returned[name], array)
        assert returned[name].shape == array.shape


# --- training


@pytest.mark.parametrize("path", of_kind("train"))
def test_training(path):
    """In float64, since Adam makes updates of full size of what float32 rounds tiny gradients to:
    its weights end up to 1e-2 apart, elsewhere on every machine. What is left here is the
    reference's own rounding."""
    with jax.enable_x64():
        check_training(read(path))


def check_training(arrays):
    model, options = build(arrays)
    decay = literal(arrays["opt"])["weight_decay"]
    tx = optax.inject_hyperparams(optax.adamw)(learning_rate=0.0, b1=0.0, weight_decay=decay)
    # The classifier has no gradient here: PyTorch neither updates nor decays it.
    trained = nnx.All(nnx.Param, nnx.Not(nnx.PathContains("classifier")))
    graphdef, *states = nnx.split(model, trained, ...)
    params, rest = float64(states)

    def loss(params, rest, images, labels, recorded):
        model = nnx.merge(graphdef, params, rest, copy=True)
        output = model(images, key=noise_of(recorded), train=True)
        rest = nnx.split(model, trained, ...)[2]
        return contrastive_loss(output, labels, options["temperature"]), rest

    @jax.jit
    def step(params, rest, opt_state, rate, b1, batch):
        (value, rest), grads = jax.value_and_grad(loss, has_aux=True)(params, rest, *batch)
        opt_state.hyperparams.update(learning_rate=rate, b1=b1)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state, value

    opt_state = tx.init(params)
    images, recorded = float64(both_views(arrays)), draws(arrays, "drop/")
    for i, expected in enumerate(arrays["out/loss"]):
        masks = None if recorded is None else [mask[i] for mask in recorded]
        rate, b1 = arrays["out/lr"][i], arrays["out/beta1"][i]
        batch = (images[i], arrays["in/labels"][i], masks)
        params, rest, opt_state, value = step(params, rest, opt_state, rate, b1, batch)
        np.testing.assert_allclose(value, expected, rtol=2e-4)

    ours = to_official(nnx.merge(graphdef, params, rest))
    for name, weights in below(arrays, "final/").items():
        if name.endswith("num_batches_tracked"):
            continue
        found = thin(ours[name], arrays)
        noisy = name in ("init_levels", "image_to_tokens.0.block.7.bias")
        error = np.linalg.norm(found - weights) / np.linalg.norm(weights)
        assert error < (2e-3 if noisy else 1e-4), (name, error)
        assert relative(found, weights) < (5e-3 if noisy else 1e-3), name


def one_cycles(num_steps, peak):
    """(rate, b1) as the recipes have them, functions of the step."""
    config = base.get_config()
    agglomerator.one_cycle(config, num_steps, peak)
    settings = config.optimizer.to_dict()
    return schedules.make(settings["learning_rate"]), schedules.make(settings["b1"])


@pytest.mark.parametrize("path", [*of_kind("onecycle"), *of_kind("train")])
def test_one_cycle(path):
    """The recipes' schedules are the recorded ones: of the released training, 86,000 steps to
    a peak of 0.05, and of the short ones."""
    arrays = read(path)
    options = literal(arrays["opt"]) if "opt" in arrays else {}
    num_steps = options.get("total_steps", agglomerator.NUM_STEPS)
    rate, b1 = one_cycles(num_steps, options.get("max_lr", 0.05))
    steps = arrays.get("in/step", np.arange(len(arrays.get("out/lr", ()))))
    found = {
        name.rpartition("/")[2]: values
        for name, values in arrays.items()
        if name.rpartition("/")[2] in ("lr", "beta1") and values.shape == steps.shape
    }
    assert set(found) == {"lr", "beta1"}
    np.testing.assert_allclose(rate(steps), found["lr"], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(b1(steps), found["beta1"], rtol=1e-6)


def test_released_one_cycle():
    rate, b1 = one_cycles(agglomerator.NUM_STEPS, 0.05)
    np.testing.assert_allclose(rate(np.array([0, 25_799, 85_999])), [2e-3, 0.05, 2e-7], rtol=1e-6)
    np.testing.assert_allclose(b1(np.array([0, 25_799, 85_999])), [0.95, 0.85, 0.95], rtol=1e-6)


# --- parts


@pytest.mark.parametrize("path", of_kind("consensus"))
def test_consensus_attention(path):
    arrays = read(path)
    x = np.moveaxis(arrays["in/levels"], 2, 0)  # [L, B, N, d]
    for name, side, options in literal(arrays["runs"]):
        radius = options.get("local_consensus_radius", 0)
        near = neighbours((side, side), radius) if radius else None
        blocked = arrays.get(f"{name}/non_local_mask")
        assert (blocked is None) == (near is None)
        assert near is None or (~near == blocked[0]).all()
        itself = options.get("attend_self", True)

        def loss(x, near=near, itself=itself):
            weights = consensus(x, near, itself)
            out = jnp.moveaxis(weighted_mean(weights, x), 0, 2)
            return jnp.sum(out * arrays["in/loss_w"]), (weights, out)

        grad, (weights, out) = jax.jit(jax.grad(loss, has_aux=True))(x)
        assert relative(out, arrays[f"{name}/out"]) < 1e-5
        assert relative(weights.swapaxes(0, 1), arrays[f"{name}/weights"]) < 1e-5
        assert relative(np.moveaxis(grad, 0, 2), arrays[f"{name}/grad_in"]) < 1e-5


@pytest.mark.parametrize("path", of_kind("supcon"))
def test_sup_con(path):
    arrays = read(path)
    for name, data, options, passed in literal(arrays["runs"]):
        z = arrays[f"in/{data}"]
        images = {passed: arrays[f"in/{passed}_{data}"]} if passed else {}
        options = {"base_temperature": 0.07, **options}
        if options.pop("contrast_mode", "all") == "one":
            options["anchors"] = "first"
        value, grad = jax.value_and_grad(partial(losses.sup_con, **images, **options))(z)
        if np.isnan(arrays[f"{name}/loss"]):
            # An anchor without a positive: the published loss is undefined, ours leaves it out.
            assert np.isfinite(value)
            assert np.isfinite(grad).all()
            continue
        np.testing.assert_allclose(value, arrays[f"{name}/loss"], rtol=1e-5)
        assert relative(grad, arrays[f"{name}/grad_in"]) < 1e-5, name


# --- sizes


def test_parameter_counts():
    """Of the released models (patch_size 1, 128 features) and of CIFAR-100's configuration."""
    for patch_size, d, N, num_classes in ((1, 128, 64, 10), (4, 32, 4, 100)):
        model = nnx.eval_shape(
            lambda p=patch_size, d=d, n=num_classes: Model(
                patch_size=p, channels=d, num_classes=n, rngs=nnx.Rngs(0)
            )
        )
        e, D, E, L = d // patch_size**2, N * d, 512, 2
        half = e // 2
        tokenizer = 9 * (3 * half + half**2 + half * e) + 2 * (2 * half + e)
        networks = sum(4 * N + G * (8 * d**2 + 5 * d) for G in (L, L - 1))
        head = 2 * d + 6 * D + D * (D + 1) + E * (D + 1)
        classifier = E * (E + 1) + num_classes * (E + 1)
        expected = 4 + L * d + tokenizer + networks + head + classifier
        leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
        assert sum(math.prod(leaf.shape) for leaf in leaves) == expected
