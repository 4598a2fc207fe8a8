"""What the systems share that the ClevrTex benchmark (arXiv 2111.10265) trains as autoencoders."""

from typing import Any

from ml_collections import ConfigDict

from configs import base
from configs.protocols import protocol
from configs.published import published


def discovery(
    protocol_key: str, chosen: set[str], model: ConfigDict, *, num_steps: int, batch_size: int
) -> ConfigDict:
    """Object discovery by a model whose weights are not averaged; a task is missing yet.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants; "procedural" takes procedural data.
        model: `config.model`.
        num_steps, batch_size: published ones.
    """
    config = base.get_config()
    config.num_steps = num_steps
    config.batch_size = batch_size
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = model
    config.ema.decay = 0.0
    config.ema.every = 1
    return config


def shrink(
    config: ConfigDict,
    *,
    size: int,
    num_steps: int,
    batch_size: int,
    num_scenes: int = 3_840,
    **model: Any,
) -> None:
    """Few steps of small batches of small images.

    Args:
        config: of `discovery`.
        size: of images, H = W.
        num_steps, batch_size: of the training.
        num_scenes: of the data, before any are left out for the number of their objects: 320 to
            test, 320 to validate, the rest to train.
        model: fields of `config.model`.
    """
    config.num_steps = num_steps
    config.batch_size = batch_size
    config.data.size = size
    config.data.test = (0, 320)
    config.data.validation = (320, 640)
    config.data.train = (640, num_scenes if config.data.max_objects is None else None)
    config.data.max_records = num_scenes
    config.model.update({"image_size": size, **model})
