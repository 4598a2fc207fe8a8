"""Protocols of configs/data.py as `config.data`, with how they are prepared and read."""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from akorn_jax import run_config
from akorn_jax.errors import UserError
from configs.data import PROCEDURAL, PROTOCOLS


def protocol(key: str, *, procedural: bool) -> ConfigDict:
    """A protocol of configs/data.py, on published or on procedural data, with how to prepare it."""
    config = ConfigDict(PROTOCOLS[key])
    if procedural:
        config.name = PROCEDURAL[config.name]
        # Procedural data with a protocol of their own follow that; the arena's is the arena's.
        own = [
            values
            for name, values in PROTOCOLS.items()
            if values["name"] == config.name and not name.endswith(":arena")
        ]
        config = ConfigDict(own[0]) if own else config
    stops = [config[part][1] for part in ("train", "validation", "test") if config[part]]
    filtered = config.min_objects is not None or config.max_objects is not None
    for name in ("crop", "train", "validation", "test"):
        config[name] = _optional(tuple, config[name])
    for name in ("size", "min_objects", "max_objects"):
        config[name] = _optional(int, config[name])
    config.seed = 0  # of procedural scenes
    config.raw_dir = placeholder(str)  # where the published files are; None downloads them
    # Compute the features of config.model.encoder once, float16, and read them: for tasks whose
    # inputs they are.
    config.features = False
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


def use_folder(config: ConfigDict) -> None:
    """Makes the data of a config pictures of one's own, at the size that its model takes.

    `config.data.raw_dir` is to name their folder. No paper's scores are theirs.

    Raises:
        UserError: the config does not say what size that is, or it is no square.
    """
    own = protocol("folder", procedural=False)
    height, width = run_config.input_size(config)
    if height != width:
        raise UserError(f"config.model takes images of {height}x{width}; pictures become squares.")
    own.size = height
    for field in ("raw_dir", "num_clusters", "loading", "num_workers"):
        own[field] = config.data[field]
    config.data = own
    config.published = ()


def _optional(kind: type, value: Any) -> Any:
    """A field that holds a value of a kind, or None."""
    reference = placeholder(kind)
    if value is not None:
        reference.set(value)
    return reference
