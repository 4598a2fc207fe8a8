"""The one forward pass: every example once, its randomness its own, whatever the batches."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, options, segmentation
from akorn_jax.evaluation.predict import collect, predict
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.autoencoding import Task
from akorn_jax.training import train_state
from configs import base as defaults


def examples(count, size=2):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    return Examples(images, None, {}, np.arange(count), np.ones(count))


def settings(**chosen):
    config = defaults.get_config()
    config.data = ConfigDict({"num_clusters": 3, "name": "none"})
    config.eval.num_workers = 1
    for name, value in chosen.items():
        with config.eval.unlocked(), config.eval.ignore_type():
            config.eval[name] = value
    return config


class Pixel(nnx.Module):
    """Keeps the first pixel, adds noise where asked to, and the step."""

    def __call__(self, images, *, key, train, num_slots=1, noise=0.0, trajectory=False):
        assert not train
        draws = noise * jax.random.normal(key, (len(images), 1, 1))
        logits = images[:, :1, 0, :1].repeat(num_slots, axis=1) + draws
        steps = (jnp.stack([logits, 2 * logits]),) if trajectory else None
        return ModelOutput(logits=logits, trajectory=steps and {"tokens": steps})


def logits(output, batch):
    return output.logits


@pytest.mark.parametrize("batch_size", [3, 7, 10])
@pytest.mark.parametrize("num_slots", [1, 2])
def test_every_image_once(batch_size, num_slots):
    found = examples(7)
    config = settings(batch_size=batch_size, options={"num_slots": num_slots})
    pred = collect(predict(Pixel(), Task(), found, config, reduce=logits))
    assert pred.shape == (7, num_slots, 1)
    np.testing.assert_allclose(pred[:, 0, 0] * 255, found.images[:, 0, 0, 0], atol=1e-4)


def test_some_images_are_what_they_were_among_all():
    found = examples(7)
    config = settings(batch_size=3, options={"noise": 1.0})
    everything = collect(predict(Pixel(), Task(), found, config, reduce=logits))
    some = collect(predict(Pixel(), Task(), found, config, reduce=logits, indices=[6, 1, 2]))
    np.testing.assert_array_equal(some, everything[[1, 2, 6]])
    other = settings(batch_size=3, options={"noise": 1.0}, seed=1)
    assert (everything != collect(predict(Pixel(), Task(), found, other, reduce=logits))).all()


def test_options_that_follow_the_step():
    task = Task(options={"noise": {"name": "linear", "start": 0.0, "stop": 1.0, "steps": 10}})
    found, config = examples(4), settings(batch_size=4)
    first, later = (
        collect(predict(Pixel(), task, found, config, reduce=logits, step=step)) for step in (0, 10)
    )
    np.testing.assert_allclose(first[:, 0, 0] * 255, found.images[:, 0, 0, 0], atol=1e-4)
    assert (first != later).all()


class Masked(nnx.Module):
    """Two segments, dark and light, and a reconstruction that is wrong by 0.1 everywhere."""

    option_ranges: ClassVar = {"sharpness": (1.0, 2.0), "num_maps": (0, np.inf)}

    def __call__(
        self, images, *, key, train, num_slots=2, sharpness=1.0, num_maps=0, hard=False, weight=1.0
    ):
        if num_slots < 2:
            raise ValueError(f"{num_slots=} must be at least 2")
        dark = images.mean(-1) < 0.5
        masks = jnp.stack([dark, ~dark, *[dark & False] * (num_slots - 2)], axis=1)
        return ModelOutput(masks=masks.astype(float), recon=images + 0.1)


def test_masks_need_no_clusters():
    found = examples(3, size=4)
    kept = predict(Masked(), Task(), found, settings(batch_size=2), reduce=segmentation.segments)
    prediction = segmentation.label_maps(kept, found, settings())
    np.testing.assert_array_equal(prediction.labels, found.images.mean(-1) / 255 >= 0.5)
    np.testing.assert_allclose(prediction.mse, [0.01] * 3, rtol=1e-4)


def test_without_true_masks_nothing_is_scored():
    found = examples(3, size=4)
    result = base.evaluate({"trained": Masked()}, Task(), found, settings(), step=0)
    assert {"mse", "mse_se", "slots_used"} <= result.summary.keys()
    assert not {"fg_ari", "mbo"} & result.summary.keys()
    assert result.labels.shape == (3, 4, 4)
    assert "no masks" in result.notes[0]


def itrsa():
    return train_state.build_model({"name": "itrsa", "channels": 8, "heads": 2}, seed=0)


def test_batches_do_not_change_what_is_not_random():
    model, found = itrsa(), examples(5, size=32)
    maps = [
        segmentation.segment(model, Task(), found, settings(batch_size=size)) for size in (2, 5)
    ]
    np.testing.assert_array_equal(*maps)
    assert maps[0].shape == (5, 32, 32)


class Silent(nnx.Module):
    def __call__(self, images, *, key, train):
        return ModelOutput()


@pytest.mark.parametrize(
    ("model", "factor", "message"),
    [
        (Masked, 2, "up_tiling=2: .* has no patches, .*; use 1"),
        (Silent, 1, "gives neither masks nor features"),
        (itrsa, 3, "up_tiling=3: does not divide the patches' 4 pixels"),
        (itrsa, 0, "up_tiling=0: "),
    ],
)
def test_what_cannot_be_segmented(model, factor, message):
    with pytest.raises(UserError, match=message):
        segmentation.segment(model(), Task(), examples(1, 32), settings(up_tiling=factor))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"num_iterations": 2}, r"num_iterations=2: .* has no such option; it has num_slots"),
        ({"num_slot": 2}, r"num_slot=2: .* did you mean num_slots"),
        ({"num_slots": -1}, "num_slots=-1: give a whole number from 1 on"),
        ({"sharpness": 0.0}, "sharpness=0.0: give a number between 1 and 2"),
        ({"sharpness": "high"}, "sharpness='high': give a number between 1 and 2"),
        ({"num_slots": "many"}, "num_slots='many': give a whole number from 1 on"),
        ({"num_slots": 2.5}, "num_slots=2.5: give a whole number from 1 on"),
        ({"num_slots": True}, "num_slots=True: give a whole number from 1 on"),
        ({"num_maps": -1}, "num_maps=-1: give a whole number from 0 on"),
        ({"hard": "yes"}, "hard='yes': give True or False"),
        ({"weight": "nan"}, "weight='nan': give a finite number"),
        ({"weight": True}, "weight=True: give a finite number"),
    ],
)
def test_options_are_for_models_that_have_them(chosen, message):
    with pytest.raises(UserError, match=message):
        options.call_options(Masked(), settings(options=chosen).eval)


def test_options_in_their_ranges_are_kept():
    chosen = {"num_slots": 3, "num_maps": 0, "hard": True, "weight": 2}
    assert options.call_options(Masked(), settings(options=chosen).eval) == chosen


def test_what_a_call_refuses_is_one_line():
    wanted = r"^the model's call cannot be compiled: num_slots=1 must be at least 2; change config"
    with pytest.raises(UserError, match=wanted):
        segmentation.segment(Masked(), Task(), examples(1, 32), settings(options={"num_slots": 1}))


def test_samples_take_their_own_of_the_options_of_an_evaluation():
    """What is for the call alone does not count; what is for neither is refused."""

    class Prior(Pixel):
        def sample(self, num_images, *, key, num_slots=1):
            raise NotImplementedError

    config = settings(options={"num_slots": 2, "noise": 0.5})
    assert options.call_options(Prior(), config.eval, method="sample") == {"num_slots": 2}
    assert options.call_options(Prior(), config.eval) == {"num_slots": 2, "noise": 0.5}
    config = settings(options={"num_slot": 2})
    with pytest.raises(UserError, match="did you mean num_slots"):
        options.call_options(Prior(), config.eval, method="sample")


def test_an_evaluator_that_does_not_exist():
    with pytest.raises(UserError, match=r"'segmentatoin' is unknown; there are .*segmentation"):
        base.chosen(settings(evaluators="segmentatoin"), Task())
    assert base.chosen(settings(evaluators="reconstruction"), Task()) == ["reconstruction"]


def test_several_evaluators_make_one_result():
    config = settings(evaluators="segmentation,reconstruction", batch_size=2)
    result = base.evaluate({"trained": Masked()}, Task(), examples(3, 4), config, step=0)
    assert {"mse", "psnr"} <= result.columns.keys()
    assert result.labels is not None
