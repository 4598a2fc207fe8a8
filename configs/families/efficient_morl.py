"""Efficient MORL (arXiv 2106.03849), as the ClevrTex benchmark trains it (arXiv 2111.10265)."""

import math
from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

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
    config = base.get_config()
    config.num_steps = 500_000
    config.batch_size = 32
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("efficient_morl", gradient_batch=8, **model)
    config.optimizer.learning_rate = 4e-4
    config.optimizer.warmup_steps = 10_000
    config.optimizer.schedule = "exponential"
    config.optimizer.decay_rate = 0.5
    config.optimizer.decay_steps = 100_000
    config.optimizer.clip_norm = 5.0
    config.ema.decay = 0.0
    config.ema.every = 1
    config.eval.options.num_iterations = 3  # whatever the curriculum has come to
    refine_less_from, geco_from = 100_000, 1_000
    if "small" in chosen:
        shrink(config)
        refine_less_from = config.num_steps // 2
        geco_from = 200
    config.task = fields.task(
        "autoencoding",
        # The refinement's own loss has the weights of the training's.
        weights={"nll": "geco", "kl": 1.0, "nll_last": 0.0},
        options={
            "nll_weight": "geco",
            "num_iterations": {
                "name": "piecewise",
                "values": (3, 1),
                "boundaries": (refine_less_from,),
            },
        },
        geco=geco(config, geco_from),
    )
    return config


def geco(config: ConfigDict, start: int) -> dict[str, Any]:
    """GECO's settings: the nll of the last iteration is held at a goal, from a step on."""
    numbers = 3 * config.model.image_size**2
    return {
        "term": "nll_last",
        "form": "softplus",
        "goal": round(GOAL * numbers),
        "step_size": 1e-6,
        "decay": 0.99,
        "start": start,
        "minimum": math.log(config.model.std) * numbers,  # of a perfect reconstruction
    }


def shrink(config: ConfigDict) -> None:
    """Minutes on a CPU: 16 x 16 pixels, a narrow network, a few thousand scenes."""
    config.num_steps = 2_000
    config.batch_size = 8
    config.data.size = 16
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 3_840)
    config.data.max_records = 3_840
    config.model.image_size = 16
    config.model.slot_size = 16
    config.model.channels = 16
    config.optimizer.learning_rate = 1e-3
    config.optimizer.warmup_steps = 100
    config.optimizer.schedule = "constant"
    config.optimizer.decay_rate = None
    config.optimizer.decay_steps = None
