"""Calibration in closed form, and whether masked gradients are told from robustness."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, robustness
from akorn_jax.outputs import ModelOutput
from akorn_jax.tasks.classification import Task
from configs import base as defaults

RNG = np.random.default_rng(0)


def test_calibration_error_of_one_confidence():
    """Three of four right at a confidence of 0.9: the error is 0.15."""
    logits = np.log(np.array([[0.9, 0.1]] * 4))
    assert robustness.calibration_error(logits, np.array([0, 0, 0, 1])) == pytest.approx(0.15)
    sure = np.array([[50.0, 0.0], [0.0, 50.0]])
    assert robustness.calibration_error(sure, np.array([0, 1])) == pytest.approx(0)


def test_the_temperature_of_overconfident_logits_is_found():
    logits = RNG.normal(0, 2, (4_000, 5))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([RNG.choice(5, p=row) for row in p])
    found = robustness.calibrate(3 * logits, labels)
    assert found["temperature"] == pytest.approx(3, rel=0.1)
    assert found["ece"] > 0.15
    assert found["ece_scaled"] < 0.03


class Colors(nnx.Module):
    """The class is the stronger of two colours; quantised, no gradient tells so."""

    def __init__(self, levels, noise=0.0):
        self.levels = levels
        self.noise = noise

    def __call__(self, images, *, key=None, train=False):
        seen = jnp.round(images * self.levels) / self.levels if self.levels else images
        color = seen.mean(axis=(1, 2))[:, :2]
        return ModelOutput(logits=20 * color + self.noise * jax.random.normal(key, (2,)))


@pytest.fixture(scope="module")
def examples():
    """Colours that differ by 0.16: moved by 0.1 each, the class changes."""
    labels = RNG.integers(0, 2, 24)
    images = np.full((24, 2, 2, 3), 110, np.uint8)
    images[np.arange(24), ..., labels] = 150
    return Examples(
        images, None, {"label": labels.astype(np.uint8)}, np.arange(24), np.zeros(24, int)
    )


def evaluate(model, examples, other=None, **changed):
    config = defaults.get_config()
    config.data = ConfigDict({"name": "x/y"})
    config.eval.batch_size = 16
    config.eval.robustness.update(
        {"epsilon": 0.1, "noise": 0.05, "num_restarts": 1, "num_starts": 2, "num_images": 20}
    )
    config.eval.robustness.update(changed)
    task = Task()
    evaluator = robustness.Evaluator(config, task)
    ctx = (jnp.zeros((), jnp.int32), ())
    wrapped = None if other is None else base.Called(other, task, ctx)
    evaluator.look(base.Called(model, task, ctx), wrapped)

    def run():
        for start in range(0, len(examples), 16):
            batch = {"image": jnp.asarray(examples.images[start : start + 16])}
            output = task.apply(model, batch, robustness.Context(0, jax.random.key(0)))
            yield {n: np.asarray(v) for n, v in evaluator.reduce(output, batch).items()}

    return evaluator.score({"trained": run()}, examples)


def test_a_plain_classifier_falls_to_every_attack(examples):
    result = evaluate(Colors(0), examples)
    s = result.summary
    assert s["accuracy"] == s["accuracy_noise"] == 1
    assert s["accuracy_fgsm"] == s["accuracy_pgd"] == s["accuracy_eot"] == s["accuracy_worst"] == 0
    assert not s["masked_gradients"]
    assert "accuracy_transfer" not in s
    assert "No sign of masked gradients" in result.notes[1]
    assert s["num_attacked"] == 20
    assert Image.open(io.BytesIO(result.pictures["calibration"])).size[0] > 100


def test_masked_gradients_show(examples):
    """Rounded to levels nothing has a gradient; transfer and decisions see through that."""
    result = evaluate(Colors(50), examples, other=Colors(0), num_queries=1_000)
    s = result.summary
    assert s["accuracy_fgsm"] == s["accuracy_pgd"] == 1
    assert s["accuracy_transfer"] == 0
    assert s["accuracy_decision"] == 0
    assert s["masked_gradients"]
    assert result.notes[1].startswith("Masked gradients")
    assert "transfer by 1.000" in result.notes[1]


def test_accuracy_is_over_starts(examples):
    """With noise as large as the difference of the colours some starts name the other class."""
    s = evaluate(Colors(0, noise=3.0), examples, num_starts=64).summary
    assert 0.6 < s["accuracy"] < 0.99


def test_what_cannot_be_attacked_is_refused(examples):
    config = defaults.get_config()
    config.data = ConfigDict({"name": "x/y"})
    evaluator = robustness.Evaluator(config, Task(labels="kind"))
    with pytest.raises(UserError, match="no logits of whole images"):
        evaluator.reduce(ModelOutput(), {})
    with pytest.raises(UserError, match="has no field 'kind'"):
        evaluator.score({}, examples)
