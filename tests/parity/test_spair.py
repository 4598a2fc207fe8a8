"""SPAIR against tensors of the reference implementation."""

import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from akorn_jax import optimizer
from akorn_jax.convert import load_official, to_official
from akorn_jax.layers.spatial_transformer import corners
from akorn_jax.models import spair
from configs import clevrtex_spair
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

PATHS = files("spair", "spair*.npz")
SCENES = [path for path in PATHS if "train" not in path.stem]
TRAININGS = [path for path in PATHS if "train" in path.stem]
ids = {"ids": lambda path: path.stem}

BETA = 2.7  # weight of all divergences but the background's
# Official state that keeps its value where parameters are made by the recipe.
CONSTANTS = ("_z_", "min_zw", "max_zw")


def config_of(path):
    with np.load(path) as arrays:
        return json.loads(str(arrays["config"]))


def fields(config, arrays):
    """The constructor's arguments; widths that the code has as constants are the weights' own."""
    model = config["model"]
    found = {
        "image_size": arrays["in/image"].shape[-1],
        "backbone": "large" if model["large"] else "original",
        "background_size": model["bg_dim"],
        "rendering": "softmax" if model.get("factor_loss") else "average",
        "anchor_size": model["anchor"],
        "glimpse_size": model["patch_size"][-1],
        "what_size": model["what_dim"],
        "pass_size": model["passf"],
    }
    stored = below(arrays, "param/")
    if not stored:
        return found

    def widths(pattern):
        return [len(v) for k, v in stored.items() if re.fullmatch(pattern, k) and v.ndim > 1]

    found["hidden_size"] = len(stored["box_enc.layers.0.weight"])
    found["encoder_hidden"] = widths(r"obj_enc\.layers\.\d+\.weight")[:-1]
    found["decoder_channels"] = len(stored["_obj_dec.0.weight"])
    found["backbone_channels"] = widths(r"backbone\..*weight")[:-1]
    if found["backbone"] == "large" and config.get("narrow"):
        found["backbone_groups"] = [2, 4, 4, 4, 8]
    if model["bg_dim"]:
        found["background_channels"] = widths(r"bg_enc\.[0246]\.weight")
        found["background_hidden"] = len(stored["bg_enc.10.weight"])
    return found


def scheduled(text, step):
    """A number, or the reference's `itr_lin(duration,start,stop)` at a step."""
    found = re.fullmatch(r"itr_lin\((.*)\)", str(text))
    if not found:
        return float(text)
    duration, start, stop = map(float, found[1].split(","))
    return start + (stop - start) * min(step / (duration - 1), 1)


def options(path, config, step):
    mask = config.get("mask", 0.5 if "options" in path.stem else 0.0)
    return {
        "sigma": scheduled(config["std"], step),
        "presence_prior": scheduled(config["prior"], step),
        "present_only": float(mask or 0.0),
    }


def draws(arrays, prefix):
    """The recorded noise of a call, in our order: all cells at once."""
    noise = list(below(arrays, prefix).values())
    background = noise[-1:] if len(noise) % 4 else []
    return [np.stack(noise[: len(noise) // 4 * 4][i::4]) for i in range(4)] + background


class Case:
    """A model with its official parameters, and its compiled functions."""

    def __init__(self, path):
        self.path = path
        self.arrays = read(path)
        self.config = config_of(path)
        arguments = fields(self.config, self.arrays)
        self.model = empty(lambda: spair.Model(**arguments, rngs=nnx.Rngs(0)))
        self.official = official_parameters(
            self.model, self.arrays, seed=2, gain=2.4, constants=CONSTANTS
        )
        load_official(self.model, self.official)
        self.graphdef, self.params, self.rest = nnx.split(self.model, nnx.Param, ...)
        self.value_and_grad = on_host(jax.value_and_grad(self._loss, has_aux=True))
        self.forward = on_host(self._forward, static_argnames="train")

    def merged(self, params):
        return nnx.merge(self.graphdef, params, self.rest)

    def _loss(self, params, image, noise, options):
        noise = Recorded(noise)
        output = self.merged(params)(image, key=noise, train=True, **options)
        noise.assert_used()
        weights = dict.fromkeys(("kl_where", "kl_what", "kl_depth", "kl_pres"), BETA)
        terms = {name: weights.get(name, 1.0) * term for name, term in output.terms.items()}
        return sum(jnp.mean(term) for term in terms.values()), (output, terms)

    def _forward(self, params, image, noise, options, *, train):
        model, draws = self.merged(params), Recorded(noise)
        output = model(image, key=Recorded(noise), train=train, **options)
        cells = model.infer(
            image,
            draws,
            train=train,
            temperature=1.0,
            presence_prior=options["presence_prior"],
        )
        background, _ = model.infer_background(image, draws)
        posterior = None
        if model.background_encoder is not None:
            posterior = model.background_encoder(image)
        scene = model.render(cells, background)
        return output, model.backbone(image), cells, scene, background, posterior

    def options(self, step):
        return options(self.path, self.config, step)

    def inputs(self):
        return last(self.arrays["in/image"]), draws(self.arrays, "in/noise_")


case = functools.cache(Case)


def tolerances(path):
    """Of outputs and gradients: float32 itself errs by about half as much."""
    return (1.5e-3, 4e-3) if "released" in path.stem else (1e-4, 2e-4)


def assert_close(ours, expected, tolerance, name):
    """Of large arrays the file keeps every n-th row, column or cell."""
    strides = [-(-n // m) for n, m in zip(ours.shape, expected.shape, strict=True)]
    kept = ours[tuple(slice(None, None, stride) for stride in strides)]
    assert relative(kept, expected) < tolerance, name


STEPS = [(path, int(step)) for path in SCENES for step in config_of(path)["steps"]]


@pytest.mark.parametrize(
    ("path", "step"), STEPS, ids=[f"{path.stem}-{step}" for path, step in STEPS]
)
def test_terms_and_gradients(path, step):
    """Of a call in training."""
    case_, (tolerance, grad_tolerance) = case(path), tolerances(path)
    options = case_.options(step)
    (loss, (_, terms)), grads = case_.value_and_grad(case_.params, *case_.inputs(), options)
    there = below(case_.arrays, f"train_step{step}/")
    np.testing.assert_allclose(options["presence_prior"], there["schedule/prior_p"], rtol=1e-5)
    np.testing.assert_allclose(options["sigma"], there["schedule/std"], rtol=1e-5)

    magnitude = max(abs(there["rec_loss"]), abs(there["loss"]))
    for name, ours in (("loss", loss), ("elbo", -loss), ("rec_loss", -terms["nll"].mean())):
        np.testing.assert_allclose(ours, there[name], atol=tolerance * magnitude, err_msg=name)
    cell_terms = ("kl_where", "kl_what", "kl_depth", "kl_pres")
    for name in cell_terms:
        np.testing.assert_allclose(terms[name].mean(), there[name], rtol=tolerance, err_msg=name)
        assert relative(terms[name], there[f"per_cell/{name}"].sum(1)) < tolerance, name
    N = case_.model.grid_size**2
    mean = sum(terms[name] for name in cell_terms).mean() / N
    np.testing.assert_allclose(mean, there["kl"], rtol=tolerance)
    if "kl_bg_per_image" in there:
        assert relative(terms["kl_bg"], there["kl_bg_per_image"]) < tolerance

    ours = to_official(nnx.merge(case_.graphdef, grads, case_.rest))
    for name, expected in below(there, "grad/").items():
        assert relative(ours[name], expected) < grad_tolerance, name
    for name, expected in below(there, "grad_sub/").items():
        flat = ours[name].ravel()
        part = flat[:: -(-flat.size // case_.config["grad_sub"])]
        norm = there[f"grad_norm/{name}"]
        np.testing.assert_allclose(np.linalg.norm(flat), norm, rtol=grad_tolerance, err_msg=name)
        assert relative(part, expected) < grad_tolerance, name


@pytest.mark.parametrize("path", SCENES, **ids)
def test_gradients_are_compared(path):
    case_ = case(path)
    names = [name for name in case_.arrays if "/grad/" in name or "/grad_sub/" in name]
    assert len(names) >= len(jax.tree.leaves(case_.params))


FULL = [
    (path, mode, int(step))
    for path in SCENES
    for mode, steps in (("train", "steps"), ("eval", "eval_steps"))
    for step in config_of(path)[steps]
    if f"{mode}_step{step}/z_where" in np.load(path).files
]


@pytest.mark.parametrize(
    ("path", "mode", "step"), FULL, ids=[f"{path.stem}-{mode}-{step}" for path, mode, step in FULL]
)
def test_cells_and_scene(path, mode, step):
    """What is inferred and what is rendered, with relaxed and with hard presence."""
    case_, (tolerance, _) = case(path), tolerances(path)
    there = below(case_.arrays, f"{mode}_step{step}/")
    output, features, cells, scene, background, posterior = case_.forward(
        case_.params, *case_.inputs(), case_.options(step), train=mode == "train"
    )

    def first(x):
        return np.moveaxis(x, -1, -3)

    size, G = output.recon.shape[1], case_.model.grid_size
    prob = jax.nn.sigmoid(cells.pres)
    found = {
        "z_where_loc": cells.where.mean,
        "z_where_scl": cells.where.std,
        "z_where": cells.z_where,
        "where": cells.box,
        "bbox": size * output.boxes[..., [1, 0, 3, 2]],
        "z_what_loc": cells.what.mean,
        "z_what_scl": cells.what.std,
        "z_what": cells.z_what,
        "z_depth_loc": cells.depth.mean,
        "z_depth_scl": cells.depth.std,
        "z_depth": cells.z_depth,
        "z_pres_prob": prob,
        "z_pres": cells.z_pres,
        "heatmap": prob.reshape(-1, 1, G, G),
        "pres_prior": cells.pres_prior,
        "glimpse": first(cells.glimpse),
        "robj_rgb": first(scene.rgb),
        "robj_masked_alpha": first(scene.alpha * cells.z_pres[..., None, None]),
        "patches": first(output.patches[:, 1:]),
        "masks": output.masks[:, 1:, None],
        "canvas": first(output.recon),
        "background": first(background),
    }
    for name in found.keys() & there.keys():
        assert_close(found[name], there[name], tolerance, name)
    assert {"z_pres", "masks", "canvas"} <= there.keys()
    np.testing.assert_array_equal(np.round(output.presence).sum(1), there["counts"])
    np.testing.assert_allclose(output.masks.sum(1), 1, atol=1e-5)
    assert relative(output.slots, there["z_what"]) < tolerance
    assert relative(output.boxes, corners(there["where"])) < tolerance
    if mode == "eval":
        assert set(np.unique(output.presence)) <= {0.0, 1.0}
    elif posterior is not None:
        assert relative(features.transpose(0, 3, 1, 2), case_.arrays["features"]) < tolerance
        assert relative(posterior.mean, case_.arrays["bg_loc"]) < tolerance
        assert relative(posterior.std, case_.arrays["bg_scale"]) < tolerance


@pytest.mark.parametrize("path", TRAININGS, **ids)
def test_three_steps(path):
    """Adam on clipped gradients."""
    arrays = read(path)
    start = case(FIXTURES / "spair" / f"{arrays['start']}.npz")
    tx, _ = optimizer.make(clevrtex_spair.get_config().optimizer, num_steps=3)

    @jax.jit
    def update(params, opt_state, grads):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, optax.tree.norm(grads)

    params, opt_state = start.params, jax.jit(tx.init)(start.params)
    for step in range(3):
        noise = draws(arrays, f"in/noise_s{step}_")
        image = last(arrays[f"in/image_{step}"])
        (loss, _), grads = start.value_and_grad(params, image, noise, start.options(step))
        np.testing.assert_allclose(loss, arrays["loss"][step], rtol=2e-5)
        params, opt_state, norm = update(params, opt_state, grads)
        np.testing.assert_allclose(norm, arrays["grad_norm"][step], rtol=1e-3)

    before, after = start.official, to_official(start.merged(params))
    for name, expected in below(arrays, "final_sub/").items():
        if name.startswith("baseline"):
            continue
        flat = after[name].ravel()
        np.testing.assert_allclose(flat[:: -(-flat.size // 64)], expected, atol=1e-5, err_msg=name)
        moved = np.linalg.norm(after[name] - before[name])
        norm = arrays[f"delta_norm/{name}"]
        np.testing.assert_allclose(moved, norm, rtol=1e-2, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("path", SCENES, **ids)
def test_weights_return_unchanged(path):
    """All but the linear map that nothing reads."""
    returned, official = to_official(case(path).model), case(path).official
    assert returned.keys() == official.keys()
    for name, array in official.items():
        assert returned[name].shape == array.shape, name
        if name.startswith("baseline"):
            np.testing.assert_array_equal(returned[name], 0)
        else:
            np.testing.assert_array_equal(returned[name], array, err_msg=name)


@pytest.mark.parametrize(("background_size", "published"), [(1, 1_309_089), (4, 1_310_727)])
def test_published_size(background_size, published):
    """What is published counts a linear map of 451 parameters that gets no gradient."""
    model = nnx.eval_shape(lambda: spair.Model(background_size=background_size, rngs=nnx.Rngs(0)))
    sizes = jax.tree.map(lambda leaf: leaf.size, nnx.state(model, nnx.Param))
    assert sum(jax.tree.leaves(sizes)) == published - 451
