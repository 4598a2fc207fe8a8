"""Every field that the program reads, with its default.

A recipe starts from `get_config()` and sets what differs. All fields can be overridden on the
command line, e.g. `--config.num_steps=100`; unknown ones are refused.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import protocols
from configs.data import PROTOCOLS


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
    config.max_hours = 0.0  # save and exit with code 124 after that time; 0 is no limit
    config.histogram_every = 0  # steps between histograms of the parameters; 0 is none
    config.profile_at = 0  # step from which a few calls are profiled for TensorBoard; 0 is none
    config.wandb_project = ""  # also log to this project of Weights & Biases

    # Evaluation while it trains, of the averaged weights
    config.eval_every = 0  # steps; 0 is only at the end
    config.eval_split = "validation"  # part of the protocol
    config.eval_scenes = 64  # how many, from the first on

    # Evaluation
    config.eval = ConfigDict()
    config.eval.split = "test"  # part of the protocol
    config.eval.datasets = ""  # others to evaluate on, e.g. "clevrtex/outd,clevrtex/camo"
    config.eval.seed = 0  # of the initial oscillators
    config.eval.batch_size = 64
    config.eval.up_tiling = 1  # tiles per side; each is a forward pass
    config.eval.num_starts = 1  # random starts of each puzzle, which vote; each is a forward pass
    config.eval.evaluators = ""  # modules of akorn_jax/evaluation, e.g. "segmentation,objects"
    config.eval.options = ConfigDict()  # of the model's call, e.g. options.num_slots=11
    config.eval.min_objects = 0  # with max_objects: which scenes count; both 0: the protocol's
    config.eval.max_objects = 0  # 0, where min_objects is not: any number
    config.eval.pca = 128  # principal components that are kept of wider features
    config.eval.baselines = True  # also score what needs no training
    # Attacks: see akorn_jax/evaluation/robustness.py
    config.eval.robustness = ConfigDict()
    config.eval.robustness.epsilon = 8 / 255  # largest change of a pixel
    config.eval.robustness.noise = 64 / 255  # size of the random changes
    config.eval.robustness.num_steps = 20  # of projected gradient ascent
    config.eval.robustness.num_restarts = 3  # of it, from random places
    config.eval.robustness.num_starts = 8  # random starts of the model that a gradient averages
    config.eval.robustness.num_queries = 200  # of the attack that sees decisions alone
    config.eval.robustness.num_images = 200  # how many are attacked, from the first on
    config.eval.robustness.transfer_from = (
        ""  # a run whose adversarial images are tried; "" is none
    )
    config.eval.num_workers = 0  # processes that cluster; 0 is one a core
    return config


def complete(saved: ConfigDict) -> ConfigDict:
    """A run's saved config, with the defaults of fields that came to be after it was saved."""
    config = get_config()
    config.data = protocols.protocol(next(iter(PROTOCOLS)), procedural=False)
    config.unlock()
    with config.ignore_type():  # a number's place may hold a schedule
        config.update(saved)
    for name in ("num_slots", "num_iterations"):  # once fields of their own; 0 was unset
        if config.eval.get(name):
            config.eval.options[name] = config.eval[name]
        if name in config.eval:
            del config.eval[name]
    return config
