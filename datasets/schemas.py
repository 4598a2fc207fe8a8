"""What the published multi-object files hold (Kabra et al. 2019, deepmind/multi_object_datasets).

Every record has one `image`, `mask`s that say which entity a pixel belongs to, and for most sets
attributes with one row per entity: first the background, then the objects, then padding.
"""

import dataclasses
import functools
import math

from datasets.errors import DatasetError


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of a record; uint8 arrays are stored as one-byte strings, one an element."""

    shape: tuple[int, ...]
    dtype: str  # "uint8" | "float32"

    @functools.cached_property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Schema:
    """One published file.

    Attributes:
      name: `<dataset>` or `<dataset>/<variant>`.
      image: shape `(H, W, C)`.
      num_entities: E, background entities and padding included.
      num_background: how many of them, counted from 0, are background.
      ignore_ids: labels of pixels that belong to no one entity.
      file: path inside the public bucket `multi-object-datasets`, for the sets that lie there.
      entities_first: masks in that file are `(E, H, W, 1)`, otherwise `(H, W, E, 1)`.
      attributes: the other fields, first axis E.
    """

    name: str
    image: tuple[int, int, int]
    num_entities: int
    num_background: int = 1
    ignore_ids: tuple[int, ...] = ()
    file: str = ""
    entities_first: bool = True
    attributes: tuple[tuple[str, Field], ...] = ()

    @property
    def mask(self) -> Field:
        height, width, _ = self.image
        grid, entities = (height, width), (self.num_entities,)
        return Field((entities + grid if self.entities_first else grid + entities) + (1,), "uint8")

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """Every field of a record by name."""
        return {"image": Field(self.image, "uint8"), "mask": self.mask, **dict(self.attributes)}


def _floats(num_entities: int, **widths: int) -> tuple[tuple[str, Field], ...]:
    """float32 fields of shape (E,), or (E, width) where width > 0."""
    return tuple(
        (name, Field((num_entities, width) if width else (num_entities,), "float32"))
        for name, width in widths.items()
    )


def _codes(num_entities: int, *names: str) -> tuple[tuple[str, Field], ...]:
    return tuple((name, Field((num_entities,), "uint8")) for name in names)


def _sprites(variant: str, channels: int, num_entities: int) -> Schema:
    attributes = _floats(
        num_entities, x=0, y=0, shape=0, visibility=0, orientation=0, scale=0, color=channels
    )
    return Schema(
        name=f"multi_dsprites/{variant}",
        file=f"multi_dsprites/multi_dsprites_{variant}.tfrecords",
        image=(64, 64, channels),
        num_entities=num_entities,
        entities_first=False,
        attributes=attributes,
    )


def _room(variant: str, file: str, num_entities: int) -> Schema:
    return Schema(
        name=f"objects_room/{variant}",
        file=f"objects_room/objects_room_{file}.tfrecords",
        image=(64, 64, 3),
        num_entities=num_entities,
        num_background=4,
    )


_ALL = (
    Schema(
        name="tetrominoes",
        file="tetrominoes/tetrominoes_train.tfrecords",
        image=(35, 35, 3),
        num_entities=4,
        attributes=_floats(4, x=0, y=0, shape=0, visibility=0, color=3),
    ),
    _sprites("binarized", channels=1, num_entities=4),
    _sprites("colored_on_grayscale", channels=3, num_entities=6),
    _sprites("colored_on_colored", channels=3, num_entities=5),
    _room("train", "train", num_entities=7),
    _room("empty_room", "test_empty_room", num_entities=4),
    _room("six_objects", "test_six_objects", num_entities=10),
    _room("identical_color", "test_identical_color", num_entities=10),
    Schema(
        name="clevr_with_masks",
        file="clevr_with_masks/clevr_with_masks_train.tfrecords",
        image=(240, 320, 3),
        num_entities=11,
        attributes=_floats(11, x=0, y=0, z=0, rotation=0, visibility=0, pixel_coords=3)
        + _codes(11, "size", "material", "shape", "color"),
    ),
)
SCHEMAS = {schema.name: schema for schema in _ALL}
_BY_FILE = {schema.file.split("/")[-1].removesuffix(".tfrecords"): schema for schema in _ALL}


def find(dataset: str) -> Schema:
    """The schema of `dataset`: `tetrominoes`, `tetrominoes/official`, `multi_dsprites/binarized`,
    or a published file's stem such as `multi_dsprites_binarized`.

    Raises:
      DatasetError: there is no such dataset.
    """
    name = dataset.removesuffix("/official")
    schema = SCHEMAS.get(name) or _BY_FILE.get(name)
    if schema is None:
        raise DatasetError(f"dataset={dataset!r}: not one of {', '.join(SCHEMAS)}")
    return schema
