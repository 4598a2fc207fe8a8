"""Efficient MORL (arXiv 2106.03849), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import fields
from configs.families import autoencoding

VARIANTS = ("small", "procedural")
GOAL = -108_000 / (3 * 128**2)  # of GECO, per number of an image: the benchmark's at 128 x 128


def discovery(protocol_key: str, chosen: set[str], **model: Any) -> ConfigDict:
    """Object discovery with the benchmark's optimizer, curriculum and GECO.

    It trains on 4 devices with 8 images each, whose mean the refinement's gradient is of; that
    number is kept on any number of devices, and at evaluation.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`.
        model: arguments of `akorn_jax.models.efficient_morl.Model`.
    """
    config = autoencoding.discovery(
        protocol_key,
        chosen,
        fields.model("efficient_morl", gradient_batch=8, **model),
        num_steps=500_000,
        batch_size=32,
    )
    config.optimizer.learning_rate = 4e-4
    config.optimizer.warmup_steps = 10_000
    config.optimizer.schedule = "exponential"
    config.optimizer.decay_rate = 0.5
    config.optimizer.decay_steps = 100_000
    config.optimizer.clip_norm = 5.0
    config.eval.options.num_iterations = 3  # whatever the curriculum has come to
    config.task = fields.task(
        "autoencoding",
        # The refinement's own loss has the weights of the training's.
        weights={"nll": "geco", "kl": 1.0, "nll_last": 0.0},
        options={
            "nll_weight": "geco",
            "num_iterations": {"name": "piecewise", "values": (3, 1), "boundaries": (100_000,)},
        },
        geco=geco(config.model, start=1_000),
    )
    if "small" in chosen:
        shrink(config)
    return config


def geco(model: ConfigDict, *, start: int) -> dict[str, Any]:
    """GECO's settings: the nll of the last iteration is held at a goal, from a step on.

    Args:
        model: whose size of images the goal follows.
        start: the step.
    """
    return {
        "term": "nll_last",
        "form": "softplus",
        "goal": fields.computed(lambda size: round(GOAL * 3 * size**2), model, "image_size"),
        "step_size": 1e-6,
        "decay": 0.99,
        "start": start,
        "beta": 0.55,
        "beta_min": 0.55,
    }


def shrink(config: ConfigDict) -> None:
    """A quarter of an hour on a CPU core: 16 x 16 pixels, a narrow network, one refinement.

    The weights begin larger than published, since the rate rises within 200 steps (see `init_gain`
    of the model), and the KL has no weight until slots explain the image.
    """
    autoencoding.shrink(
        config,
        size=16,
        num_steps=4_000,
        batch_size=16,
        slot_size=16,
        channels=16,
        num_iterations=1,
        init_gain=1.0,
    )
    kl = {"name": "linear", "start": 0.0, "stop": 0.5, "begin": 1_000, "steps": 3_000}
    config.task = fields.task(
        "autoencoding",
        weights={"nll": "geco", "kl": kl, "nll_last": 0.0},
        options={"nll_weight": "geco", "kl_weight": kl},
        geco=geco(config.model, start=200),
    )
    config.eval.options.num_iterations = 1
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 200
    config.optimizer.schedule = "cosine"
    config.optimizer.decay_rate = None
    config.optimizer.decay_steps = None
    config.log_every = 100
