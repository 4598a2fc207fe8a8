"""Every field that the program reads, with its default.

A recipe starts from `get_config()` and sets what differs. All fields can be overridden on the
command line, e.g. `--config.num_steps=100`; unknown ones are refused.
"""

import importlib
import inspect
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from akorn_jax.errors import UserError
from configs.data import PROCEDURAL, PROTOCOLS
from configs.published import published


def get_config() -> ConfigDict:
    """The defaults; `data`, `model` and `task` are empty until a recipe fills them."""
    config = ConfigDict()
    config.seed = 0  # of the weights, the order of the scenes and all other randomness
    config.num_steps = 10_000
    config.batch_size = 256  # scenes a step over all devices; contrastive learning sees each twice
    config.dtype = "float32"  # or bfloat16; akorn_jax/layers/precision.py: what stays float32
    config.data_dir = "data"  # where prepared datasets are
    config.published = ()  # what papers report on this protocol; reports show it beside

    # Data: a protocol of configs/data.py
    config.data = ConfigDict()

    # Model and task: `name` is a module of akorn_jax/models or tasks, the rest its arguments
    config.model = ConfigDict()
    config.task = ConfigDict()

    # Other weights to start from: see akorn_jax/training/init_from.py
    config.init_from = ConfigDict()
    config.init_from.path = ""  # a run's directory, or a file of official weights; "" is none
    config.init_from.source = ""  # what is taken of it, e.g. "encoder"; "" is all
    config.init_from.target = ""  # what it fills, e.g. "encoder"; "" is the whole model
    config.init_from.scope = ".*"  # regular expression of the paths that are filled

    # Optimizer: see akorn_jax/optimizer/settings.py; None stands for the optimizer's own default
    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.b1 = placeholder(float)
    config.optimizer.b2 = placeholder(float)
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0
    config.optimizer.warmup_steps = 0
    config.optimizer.schedule = "constant"
    config.optimizer.decay_rate = placeholder(float)
    config.optimizer.decay_steps = placeholder(int)
    config.optimizer.decay_start = placeholder(int)
    config.optimizer.final_fraction = placeholder(float)
    config.optimizer.plateau_factor = placeholder(float)
    config.optimizer.plateau_patience = placeholder(int)
    config.optimizer.plateau_min = placeholder(float)
    config.optimizer.clip_norm = 0.0
    config.optimizer.clip_value = 0.0
    config.optimizer.groups = ()

    # Moving average of the weights; it is what is evaluated
    config.ema = ConfigDict()
    config.ema.decay = 0.998  # largest factor
    config.ema.every = 10  # steps between updates
    config.ema.start = 200  # until then the average is a copy

    # Devices: -1 is all the rest
    config.mesh = ConfigDict()
    config.mesh.data = -1  # axis that only the batch is split over
    config.mesh.fsdp = 1  # axis that parameters are split over too
    config.steps_per_call = 1  # steps in one compiled call; more hide the dispatch of small models

    # Logs and checkpoints
    config.log_every = 50  # steps
    config.checkpoint_every = 1000  # steps
    config.keep_checkpoints = 3
    config.skip_nonfinite = 0  # steps with a non-finite loss or gradient that are tolerated
    config.max_hours = 0.0  # save and leave with exit code 124 after so long; 0 is no limit
    config.histogram_every = 0  # steps between histograms of the parameters; 0 is none
    config.profile_at = 0  # step from which a few calls are profiled for TensorBoard; 0 is none
    config.wandb_project = ""  # also log to this project of Weights & Biases

    # Evaluation while it trains, of the averaged weights
    config.eval_every = 0  # steps; 0 is only at the end
    config.eval_split = "validation"  # part of the protocol
    config.eval_scenes = 64  # the first so many of it

    # Evaluation
    config.eval = ConfigDict()
    config.eval.split = "test"  # part of the protocol
    config.eval.datasets = ""  # others to evaluate on, e.g. "clevrtex/outd,clevrtex/camo"
    config.eval.seed = 0  # of the initial oscillators
    config.eval.batch_size = 64
    config.eval.up_tiling = 1  # tiles a side; each is a forward pass of its own
    config.eval.evaluators = ""  # modules of akorn_jax/evaluation, e.g. "segmentation,objects"
    config.eval.options = ConfigDict()  # of the model's call, e.g. options.num_slots=11
    config.eval.min_objects = 0  # with max_objects: which scenes count; both 0: the protocol's
    config.eval.max_objects = 0  # 0, where min_objects is not: any number
    config.eval.pca = 128  # principal components that are kept of wider features
    config.eval.baselines = True  # also score what needs no training
    config.eval.num_workers = 0  # processes that cluster; 0 is one a core
    return config


def complete(saved: ConfigDict) -> ConfigDict:
    """A run's saved config, with the defaults of fields that came to be after it was saved."""
    config = get_config()
    config.data = protocol(next(iter(PROTOCOLS)), procedural=False)
    config.unlock()
    config.update(saved)
    return config


def choose(variant: str, known: tuple[str, ...]) -> set[str]:
    """The variants of a recipe that `--config=recipe.py:a,b` names.

    Raises:
        UserError: for one that the recipe does not have.
    """
    chosen = {name for name in variant.split(",") if name}
    for name in sorted(chosen - set(known)):
        raise UserError(f"variant {name!r} is unknown; this recipe has {', '.join(known)}.")
    return chosen


def contrastive_discovery(protocol_key: str, *, size: int, procedural: bool) -> ConfigDict:
    """Object discovery as in the AKOrN paper (arXiv 2410.13821): SimCLR, Adam 1e-3, slow EMA.

    Args:
        protocol_key: of configs/data.py.
        size: side of the images, in pixels.
        procedural: use drawn data.
    """
    config = get_config()
    config.data = protocol(protocol_key, procedural=procedural)
    config.published = published(protocol_key)
    config.task = contrastive(size)
    return config


# How slots gather what they win: variants of every Slot Attention recipe.
_AGGREGATIONS = {
    "layer_norm": "layer_norm",
    "batch_norm": "scalar_batch_norm",
    "weighted_sum": "constant",
}
SLOT_ATTENTION = (*_AGGREGATIONS, "implicit", "procedural")


def slot_attention(config: ConfigDict, chosen: set[str]) -> None:
    """Sets what every recipe of Slot Attention shares, and the variants of `SLOT_ATTENTION`.

    The rate rises for 10,000 steps and halves every 100,000, from the first step on; the weights
    are not averaged.

    Raises:
        UserError: for two aggregations at once.
    """
    aggregations = [name for name in _AGGREGATIONS if name in chosen]
    if len(aggregations) > 1:
        raise UserError(f"variants {', '.join(aggregations)} exclude each other; choose one.")
    for name in aggregations:
        config.model.aggregation = _AGGREGATIONS[name]
    if "implicit" in chosen:
        config.model.gradient = "implicit"
    config.optimizer.learning_rate = 4e-4
    config.optimizer.warmup_steps = 10_000
    config.optimizer.schedule = "exponential"
    config.optimizer.decay_rate = 0.5
    config.optimizer.decay_steps = 100_000
    config.ema.decay = 0.0
    config.ema.every = 1


def slot_discovery(protocol_key: str, chosen: set[str], **model: Any) -> ConfigDict:
    """Object discovery as in the Slot Attention paper (arXiv 2006.15055).

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `SLOT_ATTENTION`; others are ignored.
        model: arguments of `akorn_jax.models.slot_attention.Model`.
    """
    config = get_config()
    config.num_steps = 500_000
    config.batch_size = 64
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields("models", "slot_attention", **model)
    config.task = fields("tasks", "autoencoding")
    slot_attention(config, chosen)
    return config


def protocol(key: str, *, procedural: bool) -> ConfigDict:
    """A protocol of configs/data.py, on published or on drawn data, with how to prepare it."""
    config = ConfigDict(PROTOCOLS[key])
    if procedural:
        config.name = PROCEDURAL[config.name]
        # Drawn data with a protocol of their own follow that.
        own = [values for values in PROTOCOLS.values() if values["name"] == config.name]
        config = ConfigDict(own[0]) if own else config
    stops = [config[part][1] for part in ("train", "validation", "test") if config[part]]
    filtered = config.min_objects is not None or config.max_objects is not None
    for name in ("crop", "train", "validation", "test"):
        config[name] = _optional(tuple, config[name])
    for name in ("size", "min_objects", "max_objects"):
        config[name] = _optional(int, config[name])
    config.seed = 0  # of drawn scenes
    config.raw_dir = placeholder(str)  # where the published files are; None downloads them
    config.loading = "resident"  # in device memory; "stream" reads sets that do not fit as it goes
    config.num_workers = 0  # processes that read a stream; 0 reads by threads
    # Records to prepare, from the first on; None is all. Slices need no more than their last.
    config.max_records = _optional(int, None if filtered or None in stops else max(stops))
    return config


def protocol_of(dataset: str) -> ConfigDict:
    """The first protocol of configs/data.py for a dataset, e.g. "clevrtex/outd".

    Raises:
        UserError: if there is none.
    """
    for key, values in PROTOCOLS.items():
        if dataset == values["name"]:
            return protocol(key, procedural=False)
        if dataset == PROCEDURAL.get(values["name"]):
            return protocol(key, procedural=True)
    known = dict.fromkeys(values["name"] for values in PROTOCOLS.values())
    raise UserError(f"config.eval.datasets: {dataset!r} is unknown; there are {', '.join(known)}.")


def fields(kind: str, name: str, **chosen: Any) -> ConfigDict:
    """`config.model` or `config.task`: a module's arguments, with their defaults or as chosen.

    Args:
        kind: "models" or "tasks".
        name: of the module, e.g. "akorn".
        chosen: arguments that differ from the defaults.
    """
    module = importlib.import_module(f"akorn_jax.{kind}.{name}")
    made = module.Model if kind == "models" else module.Task
    config = ConfigDict({"name": name})
    for argument in inspect.signature(made.__init__).parameters.values():
        if argument.name in ("self", "rngs"):
            continue
        value = chosen.pop(argument.name, argument.default)
        config[argument.name] = placeholder(int) if value is None else value
    if chosen:
        raise TypeError(f"{module.__name__} has no arguments {', '.join(chosen)}.")
    return config


def _optional(kind: type, value: Any) -> Any:
    """A field that holds a value of a kind, or None."""
    reference = placeholder(kind)
    if value is not None:
        reference.set(value)
    return reference


def contrastive(size: int) -> ConfigDict:
    """SimCLR as AKOrN is trained (arXiv 2410.13821): views of `size` pixels, never flipped."""
    task = ConfigDict()
    task.name = "contrastive"
    task.temperature = 0.1
    task.normalize = True
    task.augmentation = ConfigDict()
    task.augmentation.size = size
    task.augmentation.scale = (0.08, 1.0)
    task.augmentation.ratio = (3 / 4, 4 / 3)
    task.augmentation.jitter = 0.8
    task.augmentation.brightness = 0.4
    task.augmentation.contrast = 0.4
    task.augmentation.saturation = 0.4
    task.augmentation.hue = 0.1
    task.augmentation.grayscale = 0.2
    task.augmentation.flip = 0.0
    return task
