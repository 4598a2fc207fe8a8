"""Objects Room: MuJoCo rooms with up to six objects, 64x64 (Kabra et al. 2019).

Files of the public bucket `multi-object-datasets` (Apache-2.0): the training set and three test
sets, each a config. Labels 0 to 3 are sky, floor and two halves of the wall.
"""

import tensorflow_datasets as tfds

from datasets import schemas
from datasets.builder import MultiObjectBuilder, Variant

_DESCRIPTIONS = {
    "train": "One to three objects.",
    "empty_room": "Test set without objects.",
    "six_objects": "Test set with exactly six objects.",
    "identical_color": "Test set with four to six objects of one colour.",
}


class ObjectsRoom(MultiObjectBuilder):
    """Rooms with up to six objects."""

    VERSION = tfds.core.Version("1.0.0")
    SUBSTITUTE = ""
    BUILDER_CONFIGS = tuple(
        Variant(name=name, description=text, schema=schemas.find(f"objects_room/{name}"))
        for name, text in _DESCRIPTIONS.items()
    )
