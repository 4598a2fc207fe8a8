"""SPACE against tensors of the reference implementation."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax import optimizer
from akorn_jax.convert import load_official, to_official
from akorn_jax.layers.component_background import LOG_EPS
from akorn_jax.layers.distributions import mixture_log_prob, normal_log_prob
from akorn_jax.layers.spatial_transformer import corners, extract
from akorn_jax.models import space
from akorn_jax.optimizer import schedules
from configs import clevr_space
from tests.parity.recipes import official_parameters
from tests.parity.tensors import (
    FIXTURES,
    Recorded,
    below,
    empty,
    files,
    last,
    on_host,
    read,
    relative,
)

PATHS = files("space", "space*.npz")
SCENES = [path for path in PATHS if "train" not in path.stem]
TRAININGS = [path for path in PATHS if "train" in path.stem]
ids = {"ids": lambda path: path.stem}

# Official state that keeps its value where parameters are made by the recipe.
CONSTANTS = ("fg_module.tau", "fg_module.prior_", "fg_module.img_encoder.offset")
# The gradient of a bias that batch norm takes away again is rounding noise.
NOISE = tuple(
    f"bg_module.{part}.{layer}.bias"
    for part in ("image_enc.enc", "comp_encoder.enc", "comp_decoder.decoder")
    for layer in (0, 3, 6, 9)
)
FIELDS = {
    "G": "grid_size",
    "K": "num_components",
    "z_what_dim": "what_size",
    "z_mask_dim": "mask_size",
    "z_comp_dim": "component_size",
    "img_enc_dim_bg": "feature_size",
    "rnn_mask_hidden_dim": "hidden_size",
    "predict_comp_hidden_dim": "mlp_size",
    "fg_sigma": "foreground_std",
    "bg_sigma": "background_std",
}


def config_of(path):
    with np.load(path) as arrays:
        return json.loads(str(arrays["config"]))


def fields(config):
    """The constructor's arguments; what a file does not say is as published."""
    arch = config.get("arch") or {}
    found = {ours: arch[theirs] for theirs, ours in FIELDS.items() if theirs in arch}
    return found | ({"channels": 2, "groups": 1} if config.get("narrow") else {})


def schedule(step):
    """The published options at a step."""
    task = clevr_space.get_config().task
    options = {name: schedules.make(spec)(step) for name, spec in task.options.to_dict().items()}
    return {"temperature": 2.5, **options}


def draws(arrays, prefix, num_components):
    """The recorded noise of a call, in our layout."""
    K = num_components
    noise = list(below(arrays, prefix).values())
    B = len(noise[0])
    masks, comps = np.stack(noise[:K]), noise[K].reshape(B, K, -1)
    return [masks, comps, *noise[K + 1 : -1], noise[-1].reshape(B, -1, noise[-1].shape[-1])]


class Case:
    """A model with its official parameters, and its compiled functions."""

    def __init__(self, path):
        self.arrays = read(path)
        self.config = config_of(path)
        self.model = empty(lambda: space.Model(**fields(self.config), rngs=nnx.Rngs(0)))
        self.official = official_parameters(
            self.model, self.arrays, seed=1, gain=1.4, constants=CONSTANTS
        )
        load_official(self.model, self.official)
        self.graphdef, self.params, self.rest = nnx.split(self.model, nnx.Param, ...)
        self.num_components = self.model.background.num_components
        self.value_and_grad = on_host(jax.value_and_grad(self._loss, has_aux=True))
        self.evaluate = on_host(lambda *args: self._call(*args, train=False))
        self.latents = on_host(self._latents)

    def _call(self, params, rest, image, noise, options, *, train):
        model = nnx.merge(self.graphdef, params, rest, copy=True)
        noise = Recorded(noise)
        output = model(image, key=noise, train=train, **options)
        noise.assert_used()
        _, _, rest = nnx.split(model, nnx.Param, ...)
        return output, rest

    def _loss(self, params, *args):
        output, rest = self._call(params, *args, train=True)
        return sum(jnp.mean(term) for term in output.terms.values()), (output, rest)

    def _latents(self, params, rest, image, noise):
        model = nnx.merge(self.graphdef, params, rest)
        noise = Recorded(noise)
        features = jax.nn.elu(model.background.encoder(image, train=False))
        components = model.background.infer(image, noise, train=False)
        objects = model.foreground.infer(image, 2.5, noise)
        return features, components, objects, space.compose(objects, model.image_size)

    def officially(self, params, rest):
        return to_official(nnx.merge(self.graphdef, params, rest))

    def inputs(self):
        noise = draws(self.arrays, "in/noise_", self.num_components)
        return last(self.arrays["in/image"]), noise


case = functools.cache(Case)


def tolerances(path):
    """Of outputs and gradients: float32 itself errs by about half as much."""
    return 3e-4, 5e-4


def assert_close(ours, expected, tolerance, name):
    """Of large arrays the file keeps every n-th row, column or cell."""
    strides = [-(-n // m) for n, m in zip(ours.shape, expected.shape, strict=True)]
    kept = ours[tuple(slice(None, None, stride) for stride in strides)]
    assert relative(kept, expected) < tolerance, name


def assert_output(output, there, options, tolerance):
    """Terms, and where the file has them images, masks and what is in the cells."""
    scheduled = below(there, "schedule/")
    for ours, official in (
        ("temperature", "tau"),
        ("presence_prior", "prior_z_pres_prob"),
        ("scale_prior", "prior_scale_mean"),
    ):
        np.testing.assert_allclose(options[ours], scheduled[official], rtol=1e-5)

    terms = {name: np.asarray(term) for name, term in output.terms.items()}
    kl_fg = sum(terms[f"kl_{name}"] for name in ("pres", "depth", "scale", "shift", "what"))
    kl_bg = terms["kl_bg_mask"] + terms["kl_bg_comp"]
    scalars = {
        "loss": sum(terms.values()),
        "rec_loss": -terms["nll"],
        "boundary_loss": terms["boundary"],
        "elbo": -terms["nll"] - kl_fg - kl_bg,
        "kl": kl_fg + kl_bg,
        "kl_fg": kl_fg,
        "kl_bg": kl_bg,
        "kl_what": terms["kl_what"],
        "kl_where": terms["kl_scale"] + terms["kl_shift"],
        "kl_depth": terms["kl_depth"],
        "kl_pres": terms["kl_pres"],
    }
    magnitude = max(abs(there["rec_loss"]), abs(there["loss"]))
    for name, ours in scalars.items():
        atol = tolerance * magnitude if name in ("loss", "rec_loss", "elbo") else 0
        np.testing.assert_allclose(
            ours.mean(), there[name], rtol=tolerance, atol=atol, err_msg=name
        )
    per_image = {"boundary_loss": terms["boundary"], "kl_bg": kl_bg}
    per_image |= {
        f"kl_z_{n}": terms[f"kl_{n}"] for n in ("what", "pres", "scale", "shift", "depth")
    }
    for name, ours in per_image.items():
        assert relative(ours, there[f"per_image/{name}"]) < tolerance, name

    np.testing.assert_allclose(output.masks.sum(1), 1, atol=1e-5)
    if "canvas" in there:
        images = {
            "canvas": output.recon.transpose(0, 3, 1, 2),
            "background": output.patches[:, 0].transpose(0, 3, 1, 2),
            "masks": output.masks[:, 1:, None],
        }
        for name, ours in images.items():
            assert_close(ours, there[name], tolerance, name)
        assert relative(output.presence, there["z_pres"][..., 0]) < tolerance
        assert relative(output.slots, there["z_what"]) < tolerance
        assert relative(output.boxes, corners(there["z_where"])) < tolerance
        np.testing.assert_array_equal(np.round(output.presence).sum(1), there["counts"])


STEPS = [(path, int(step)) for path in SCENES for step in config_of(path)["steps"]]


@pytest.mark.parametrize(
    ("path", "step"), STEPS, ids=[f"{path.stem}-{step}" for path, step in STEPS]
)
def test_training_call(path, step):
    """Outputs, terms, gradients and running statistics of a call in training."""
    case_, (tolerance, grad_tolerance) = case(path), tolerances(path)
    options = schedule(step)
    (_, (output, rest)), grads = case_.value_and_grad(
        case_.params, case_.rest, *case_.inputs(), options
    )
    there = below(case_.arrays, f"train_step{step}/")
    assert_output(output, there, options, tolerance)

    after = case_.officially(case_.params, rest)
    for name, expected in below(there, "after/").items():
        assert relative(after[name], expected) < tolerance, name

    ours = case_.officially(grads, case_.rest)
    for name, expected in below(there, "grad/").items():
        if name not in NOISE:
            assert relative(ours[name], expected) < grad_tolerance, name
    for name, expected in below(there, "grad_sub/").items():
        if name not in NOISE:
            flat = ours[name].ravel()
            part = flat[:: -(-flat.size // case_.config["grad_sub"])]
            norm = there[f"grad_norm/{name}"]
            np.testing.assert_allclose(
                np.linalg.norm(flat), norm, rtol=grad_tolerance, err_msg=name
            )
            assert relative(part, expected) < grad_tolerance, name


@pytest.mark.parametrize("path", SCENES, **ids)
def test_gradients_and_statistics_are_compared(path):
    case_ = case(path)
    grads = [name for name in case_.arrays if "/grad/" in name or "/grad_sub/" in name]
    after = [name for name in case_.arrays if "/after/" in name]
    norms = sum("running_" in name for name in case_.official)
    assert len(grads) >= len(case_.official) - norms - len(CONSTANTS) - 4
    assert len(after) == norms or "param/bg_module.z_mask_0" not in case_.arrays


EVALUATIONS = [(path, int(step)) for path in SCENES for step in config_of(path)["eval_steps"]]


@pytest.mark.parametrize(
    ("path", "step"), EVALUATIONS, ids=[f"{path.stem}-{step}" for path, step in EVALUATIONS]
)
def test_evaluation_call(path, step):
    """The running statistics are used, and stay."""
    case_, (tolerance, _) = case(path), tolerances(path)
    options = schedule(step)
    output, rest = case_.evaluate(case_.params, case_.rest, *case_.inputs(), options)
    assert_output(output, below(case_.arrays, f"eval_step{step}/"), options, tolerance)
    jax.tree.map(np.testing.assert_array_equal, rest, case_.rest)


@pytest.mark.parametrize("path", SCENES, **ids)
def test_latents(path):
    """What the networks say before it is weighed, and what is made of it."""
    case_, (tolerance, _) = case(path), tolerances(path)
    there = below(case_.arrays, f"eval_step{case_.config['eval_steps'][0]}/")
    image, noise = case_.inputs()
    features, components, objects, scene = case_.latents(case_.params, case_.rest, image, noise)
    images, masks = components.images, jnp.exp(components.log_masks)
    B, N = objects.z_pres.shape[:2]

    def rows(x):
        return x.reshape(B * N, *x.shape[2:])

    def first(x):
        return np.moveaxis(x, -1, -3)

    glimpses = extract(image[:, None], objects.where, (space.GLIMPSE, space.GLIMPSE))
    frames = 1000 / space.GLIMPSE**2
    frames *= space.draw_frames(objects.where, objects.z_pres, image.shape[1], space.GLIMPSE)
    found = {
        "fg": first(scene.image),
        "alpha_map": first(scene.alpha),
        "boundary_map": frames[:, None],
        "bg_masks": masks[:, :, None],
        "bg_comps": first(images),
        "importance_norm": scene.weights[:, :, None],
        "glimpses": first(rows(glimpses)),
        "o_att": first(rows(objects.rgb)),
        "alpha_att": first(rows(objects.alpha)),
        "bg_enc": features,
        "z_where": objects.where,
        "z_depth": objects.z_depth,
        "z_pres_logits": objects.cells.pres,
        "z_pres_prob": jax.nn.sigmoid(objects.cells.pres),
        "q_what_mean": rows(objects.what.mean),
        "q_what_std": rows(objects.what.std),
    }
    for name in ("depth", "scale", "shift"):
        q = getattr(objects.cells, name)
        found |= {f"q_{name}_mean": q.mean, f"q_{name}_std": q.std}
    for name, q in (
        ("mask_q", jax.tree.map(lambda x: x.swapaxes(0, 1), components.mask)),
        ("mask_p", jax.tree.map(lambda x: x.swapaxes(0, 1), components.mask_prior)),
        ("comp_q", components.comp),
        ("comp_p", components.comp_prior),
    ):
        found |= {f"bg_{name}_loc": q.mean, f"bg_{name}_scale": q.std}
    for name, ours in found.items():
        assert_close(ours, there[name], tolerance, name)

    log_probs = {
        "fg_log_prob": normal_log_prob(image, scene.image, case_.model.foreground_std),
        "bg_log_prob": mixture_log_prob(
            image[:, None],
            jnp.log(masks + LOG_EPS)[..., None],
            images,
            case_.model.background_std,
        ),
    }
    for name, ours in log_probs.items():
        expected = there[f"per_image/{name}"]
        assert relative(ours.sum((1, 2, 3)), expected) < tolerance, name


@pytest.mark.parametrize("path", TRAININGS, **ids)
def test_three_steps(path):
    """RMSprop on the foreground, Adam on the background, one common clipped gradient."""
    arrays = read(path)
    start = case(FIXTURES / "space" / f"{arrays['start']}.npz")
    tx, _ = optimizer.make(clevr_space.get_config().optimizer, num_steps=3)

    @jax.jit
    def update(params, opt_state, grads):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, optax.tree.norm(grads)

    params, rest = start.params, start.rest
    opt_state = jax.jit(tx.init)(params)
    for step in range(3):
        noise = draws(arrays, f"in/noise_s{step}_", start.num_components)
        image = last(arrays[f"in/image_{step}"])
        (loss, (_, rest)), grads = start.value_and_grad(params, rest, image, noise, schedule(step))
        np.testing.assert_allclose(loss, arrays["loss"][step], rtol=1e-4)
        params, opt_state, norm = update(params, opt_state, grads)
        # Later gradients are those of parameters that float32 has already moved apart.
        np.testing.assert_allclose(norm, arrays["grad_norm"][step], rtol=(2e-4, 1e-2, 2e-2)[step])

    before, after = start.official, start.officially(params, rest)
    for name, expected in below(arrays, "final_sub/").items():
        if name in NOISE:
            continue
        flat = after[name].ravel()
        atol = 2e-5 if name.startswith("fg_module") else 2e-4  # a fifth of the first step
        np.testing.assert_allclose(flat[:: -(-flat.size // 64)], expected, atol=atol, err_msg=name)
        moved = np.linalg.norm(after[name] - before[name])
        norm = arrays[f"delta_norm/{name}"]
        np.testing.assert_allclose(moved, norm, rtol=2e-2, atol=1e-6, err_msg=name)
    for name, expected in below(arrays, "final_stats/").items():
        assert relative(after[name], expected) < 1e-3, name


@pytest.mark.parametrize("path", SCENES, **ids)
def test_weights_return_unchanged(path):
    returned, official = to_official(case(path).model), case(path).official
    assert returned.keys() == official.keys()
    for name, array in official.items():
        assert returned[name].shape == array.shape, name
        np.testing.assert_array_equal(returned[name], array, err_msg=name)


def test_published_size():
    model = nnx.eval_shape(lambda: space.Model(rngs=nnx.Rngs(0)))

    def size(module):
        return sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param)))

    assert size(model.foreground) == 2_357_167
    assert size(model.background) == 2_950_484
    assert size(model) == 5_307_651
