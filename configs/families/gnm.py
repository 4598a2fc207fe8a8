"""GNM (arXiv 2010.12152), as ClevrTex's authors run it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("procedural", "small")

# A model for images of 32 x 32 pixels, a tenth of the published size.
_SMALL = {
    "image_size": 32,
    "num_draws": 2,
    "global_size": 16,
    "what_size": 16,
    "background_size": 4,
    "encoder_channels": (16, 32, 64),
    "encoder_strides": (2, 2, 2),
    "glimpse_channels": (32, 16, 8),
    "background_channels": (32, 16, 8),
    "background_upscales": (4, 4, 2),
    "head_channels": (64, 64),
    "draw_channels": (64, 64),
    "global_prior": (128,),
    "global_posterior": (128,),
    "global_decoder": (128, 512),
    "background_prior": (32,),
    "background_posterior": (64,),
}


def scenes(protocol_key: str, chosen: set[str], *, std: float, **model: Any) -> ConfigDict:
    """Generation and discovery of objects.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
        std: of a pixel, the argument of `akorn_jax.models.gnm.Model` that matters most.
        model: its other arguments; the small model has its own.
    """
    config = base.get_config()
    config.num_steps = 300_000
    config.batch_size = 32
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("gnm", std=std, **model)
    config.task = _task()
    config.optimizer.name = "rmsprop"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.clip_norm = 1.0
    config.ema.decay = 0.0
    config.ema.every = 1
    config.eval.evaluators = "segmentation,objects"
    if "small" in chosen:
        _shrink(config)
    return config


def shrink_solids(config: ConfigDict, *, std: float) -> None:
    """The small recipe for solids on grounds that are alike: no bootstrap, cells that start open.

    The background learns such a ground in tens of steps, whatever cells do meanwhile; after the
    bootstrap it would never have to, as cells tile the image by then.

    Args:
        config: a small one.
        std: of a pixel; a quarter of the published one, as a side has a quarter of the pixels, or
            less.
    """
    config.model.std = std
    config.task.options.bootstrap.values = (0.0, 0.0, 0.0)
    config.task.options.presence_prior.update({"start": 0.5, "begin": 500})


def _shrink(config: ConfigDict) -> None:
    """Minutes on a CPU core: smaller in every way, and Adam at four times the rate.

    A narrower `std` makes up for the fewer pixels that an object has; fewer steps do not leave the
    schedules their published lengths. Rates above 5e-4 drive presence into its bounds when the
    bootstrap ends, where it gets no gradient.
    """
    config.model = fields.model("gnm", std=0.12, **_SMALL)
    config.task.weights.kl_global.steps = 2000
    config.task.weights.aux_where.steps = 800
    config.task.weights.aux_bg = ConfigDict({"name": "constant", "value": 1.0})
    config.task.options.temperature.update({"begin": 50, "steps": 1000})
    config.task.options.presence_prior.update({"stop": 0.01, "begin": 1000, "steps": 1000})
    config.task.options.bootstrap.boundaries = (1, 500)
    config.num_steps = 2600
    config.batch_size = 16
    config.data.size = _SMALL["image_size"]
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 4000)
    config.data.max_records = 4000
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 4e-4
    config.optimizer.warmup_steps = 100
    config.log_every = 100
    config.checkpoint_every = 1300


def _task() -> ConfigDict:
    """The published terms and schedules.

    The prior that is fixed holds boxes small and the background simple at first, so that objects
    and not the background explain the image; for 500 steps the background hardly counts at all.
    The global latent costs nothing at first, so that it follows what the objects have become.
    """

    def linear(start: float, stop: float, end: int, begin: int = 0) -> dict:
        steps = end - begin
        return {"name": "linear", "start": start, "stop": stop, "steps": steps, "begin": begin}

    return fields.task(
        "autoencoding",
        weights={
            "nll": 1.0,
            "kl_pres": 1.0,
            "kl_where": 1.0,
            "kl_depth": 1.0,
            "kl_what": 1.0,
            "kl_bg": 1.0,
            "kl_global": linear(0.0, 1.0, 100_000),
            "aux_pres": 1.0,
            "aux_where": linear(10.0, 1.0, 500),
            "aux_depth": 1.0,
            "aux_what": 1.0,
            "aux_bg": linear(50.0, 1.0, 50_000),
        },
        options={
            "temperature": linear(1.0, 0.5, 20_000, begin=1000),
            "presence_prior": linear(0.1, 0.001, 4000),
            "bootstrap": {
                "name": "piecewise",
                "values": (0.0, 1.0, 0.0),
                "boundaries": (1, 500),
            },
        },
    )
