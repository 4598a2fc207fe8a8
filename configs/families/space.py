"""SPACE (arXiv 2001.02407), as ClevrTex's authors run it (arXiv 2111.10265)."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("procedural", "small")

# A model for images of 32 x 32 pixels with cells of 8.
_SMALL = {
    "image_size": 32,
    "grid_size": 4,
    "num_components": 2,
    "channels": 4,
    "groups": 2,
    "what_size": 8,
    "glimpse_size": 16,
    "mask_size": 2,
    "component_size": 2,
    "scale_prior_std": 0.3,
    "feature_size": 16,
    "hidden_size": 16,
    "mlp_size": 16,
}

TERMS = (
    "nll",
    *(f"kl_{part}" for part in ("pres", "depth", "scale", "shift", "what", "bg_mask", "bg_comp")),
    "boundary",
)


def linear(start: float, stop: float, begin: int, end: int) -> dict[str, Any]:
    """A schedule from `start` at step `begin` to `stop` at step `end`."""
    return {"name": "linear", "start": start, "stop": stop, "begin": begin, "steps": end - begin}


# At first objects are cheap; then they become rare, and at last small.
PRESENCE_PRIOR = linear(0.1, 0.01, 4_000, 10_000)
SCALE_PRIOR = linear(-1.0, -2.0, 10_000, 20_000)


def scenes(protocol_key: str, chosen: set[str]) -> ConfigDict:
    """Discovery of objects with boxes, on a segmented background.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
    """
    config = base.get_config()
    config.num_steps = 160_000
    config.batch_size = 16
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("space")
    config.task = task(PRESENCE_PRIOR, SCALE_PRIOR)
    # Adam for the background, which learns at once; RMSprop, slowly, for the objects.
    config.optimizer.learning_rate = 1e-3
    config.optimizer.groups = (("foreground/.*", {"name": "rmsprop", "learning_rate": 1e-5}),)
    config.optimizer.clip_norm = 1.0
    config.ema.decay = 0.0
    config.ema.every = 1
    config.eval.evaluators = "segmentation,objects"
    config.eval.batch_size = 16
    if "small" in chosen:
        _shrink(config)
    return config


def _shrink(config: ConfigDict) -> None:
    """Ten minutes on a CPU core: smaller in every way, objects learning as fast as the background.

    A background of few latents leaves the objects to the cells. Boxes are as large as sprites; the
    frame that SPACE keeps free counts less, as it takes two thirds of a box of ten pixels. Figure
    and ground share every pixel at first, so that cells learn colours before they have to win; what
    an object looks like costs nothing at first, so that cells need not all draw the mean sprite.
    """
    config.model = fields.model("space", **_SMALL)
    config.task = task(
        linear(0.5, 0.02, 600, 2_000),
        -1.0,
        linear(2.5, 0.7, 0, 2_000),
        {"name": "piecewise", "values": (0.1, 0.0), "boundaries": (500,)},
        boundary=0.1,
        kl_what=linear(0.0, 1.0, 300, 2_000),
    )
    config.num_steps = 2_500
    config.data.size = _SMALL["image_size"]
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 4_000)
    config.data.max_records = 4_000
    config.optimizer.groups = ()
    config.log_every = 100
    config.checkpoint_every = 1_000


def task(
    presence_prior: Any,
    scale_prior: Any,
    temperature: Any = 2.5,
    fixed_alpha: Any = 0.0,
    **weights: Any,
) -> ConfigDict:
    """The sum of all terms, some with `weights`, under schedules of the model's options."""
    return fields.task(
        "autoencoding",
        weights=dict.fromkeys(TERMS, 1.0) | weights,
        options={
            "presence_prior": presence_prior,
            "scale_prior": scale_prior,
            "temperature": temperature,
            "fixed_alpha": fixed_alpha,
        },
    )
