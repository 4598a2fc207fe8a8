"""DTI-Sprites (arXiv 2104.14575): what its recipes share."""

from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("small", "procedural")
BENCHMARK_VARIANTS = ("complex", "trunk12", *VARIANTS)

# Transformations of ClevrTex's authors for textures: sprites change colour by themselves, and the
# background is warped too.
_COMPLEX = {
    "sprite_transformations": ("color", "projective"),
    "background_transformations": ("color", "projective"),
}


def discovery(
    protocol_key: str,
    chosen: set[str],
    *,
    steps_per_epoch: int,
    num_epochs: int,
    learn_from: int,
    deform_from: int,
    drops: tuple[int, int],
    reassign_every: int,
    warmup_steps: int = 0,
    mean_background: bool = True,
    **model: Any,
) -> ConfigDict:
    """The official training: Adam at 1e-4, batches of 32.

    Two groups of parameters: sprites, masks and background at a constant rate; encoder and
    regressors under an L2 term, at a rate that falls to a tenth twice. The L2 term is one of the
    model's and not the optimizer's `weight_decay`, so that regressors which do not act yet keep
    their initial weights: Adam would shrink what has no other gradient at its full rate.

    The official code of ClevrTex's authors lists the encoder once per transformer in one group of
    the optimizer, 12 times with 10 layers, and PyTorch's Adam then updates it as often per step.
    Here it is updated once; the variant `trunk12` multiplies its rate by 12 instead.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants; those that a recipe does not have are ignored.
        steps_per_epoch: of the official training, in which the other numbers count.
        num_epochs: length of the training.
        learn_from: epoch from which sprites are learned, and not their transformations alone.
        deform_from: epoch from which sprites are deformed.
        drops: epochs at which the rate of encoder and regressors falls to a tenth.
        reassign_every, mean_background: see `akorn_jax.tasks.sprite_clustering.Task`.
        warmup_steps: of all rates.
        model: arguments of `akorn_jax.models.dti_sprites.Model`.
    """
    config = base.get_config()
    config.num_steps = num_epochs * steps_per_epoch
    config.batch_size = 32
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    if "complex" in chosen:
        model = {**model, **_COMPLEX}
    config.model = fields.model("dti_sprites", **model)
    set_training(
        config,
        rate=1e-4,
        trunk=12.0 if "trunk12" in chosen else 1.0,
        learn_from=learn_from * steps_per_epoch,
        deform_from=deform_from * steps_per_epoch,
        drops=tuple(epoch * steps_per_epoch for epoch in drops),
        reassign_every=reassign_every,
        warmup_steps=warmup_steps,
        mean_background=mean_background,
    )
    config.ema.decay = 0.0
    config.ema.every = 1
    config.eval.batch_size = 32
    return config


def benchmark(protocol_key: str, chosen: set[str], *, steps_per_epoch: int) -> ConfigDict:
    """ClevrTex's authors' settings: ten sprites, ten layers, a warm-up; arguments as above."""
    return discovery(
        protocol_key,
        chosen,
        steps_per_epoch=steps_per_epoch,
        num_epochs=450,
        learn_from=40,
        deform_from=150,
        drops=(250, 400),
        reassign_every=250,
        warmup_steps=1000,
    )


def shrink(config: ConfigDict, *, num_steps: int, mean_background: bool = True) -> None:
    """Minutes on a CPU core: a small encoder, ten times the rate, a thousandth of the steps."""
    config.model.encoder = "resnet18"
    config.model.encoder_channels = (16, 32, 32, 64)
    config.model.pool_size = (2, 2)
    config.model.hidden_size = 64
    config.num_steps = num_steps
    set_training(
        config,
        rate=1e-3,
        learn_from=num_steps // 30,
        deform_from=num_steps // 3,
        drops=(num_steps * 8 // 10, num_steps * 9 // 10),
        reassign_every=50,
        mean_background=mean_background,
    )
    config.log_every = 100
    config.checkpoint_every = num_steps // 2


def shrink_clevr(config: ConfigDict) -> None:
    """`shrink`, and a few thousand scenes of 64 x 64 pixels."""
    config.model.image_size = 64
    config.model.sprite_size = 20
    config.model.mask_std = 5.0
    config.model.num_layers = 6
    config.model.num_sprites = 6
    config.data.size = 64
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, 4000)
    config.data.max_records = 4000
    shrink(config, num_steps=2000)


def set_training(
    config: ConfigDict,
    *,
    rate: float,
    learn_from: int,
    deform_from: int,
    drops: tuple[int, int],
    reassign_every: int,
    warmup_steps: int = 0,
    mean_background: bool = True,
    trunk: float = 1.0,
    sprite_rate: float | None = None,
) -> None:
    """The task and the optimizer for `config.model`; as `discovery`, in steps.

    Args:
        trunk: the encoder's rate over that of the regressors.
        sprite_rate: of sprites, masks and background, falls as the others do; None: `rate`, which
            for them does not fall.
    """
    model = config.model
    config.task = fields.task(
        "sprite_clustering",
        num_layers=model.num_layers,
        num_choices=model.num_sprites + model.empty_sprite,
        weights={"mse": 1.0, "l2": 1e-6},
        options={"learn_sprites": _from(learn_from), "deform": _from(deform_from)},
        reassign_every=reassign_every,
        mean_background=mean_background,
    )

    def warmed(spec: float | dict) -> float | dict:
        return {"name": "warmup", "steps": warmup_steps, "then": spec} if warmup_steps else spec

    def falling(rate: float) -> dict:
        values = (rate, rate / 10, rate / 100)
        return warmed({"name": "piecewise", "values": values, "boundaries": drops})

    sprites = warmed(rate) if sprite_rate is None else falling(sprite_rate)
    with config.ignore_type():
        config.optimizer.learning_rate = ConfigDict(falling(rate))
    config.optimizer.groups = (
        ("sprites|masks|background", {"name": "adam", "learning_rate": sprites}),
        ("encoder/.*", {"name": "adam", "learning_rate": falling(trunk * rate)}),
    )


def _from(step: int) -> dict | float:
    """0, and 1 from a step on."""
    if step == 0:
        return 1.0
    return {"name": "piecewise", "values": (0.0, 1.0), "boundaries": (step,)}
