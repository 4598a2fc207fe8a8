"""What each paper calls train, validation and test: slices of prepared splits, as data.

A protocol is `PROTOCOLS["<dataset>:<paper>"]`, with the fields

  name           what `tfds.builder` reads
  split          the prepared split that is sliced, or {"train": ..., "test": ...} where the set
                 comes split
  crop           (top, left, bottom, right) in pixels, or None
  size           side of the square the crop is resized to, or None
  interpolation  of images, "nearest" | "bilinear"; labels are always nearest, which takes source
                 index floor((i + .5) * scale)
  min_objects, max_objects   keep records with so many objects; None keeps all
  count          "visible": the largest label present after crop and resize
                 "listed": the sum of `visibility[1:]`, objects outside the crop included
  train, validation, test    (start, stop) over the records kept, in file order; stop None is all;
                 None: the paper has no such part
  num_clusters   segments a prediction is cut into
"""

_DEFAULTS = {
    "split": "train",
    "crop": None,
    "size": None,
    "interpolation": "nearest",
    "min_objects": None,
    "max_objects": None,
    "count": "visible",
}


def _protocol(name: str, **fields) -> dict:
    return {**_DEFAULTS, "name": name, **fields}


# AKOrN's converter (data preparation of the official code): 64 for a look, then test, validation
# and train, in file order.
_AKORN_PARTS = {"test": (64, 384), "validation": (384, 10_384), "train": (10_384, 70_384)}
# Slot Attention trains on the first 60,000 and tests on the 320 that follow (Locatello et al.
# 2020, appendix E; IODINE's protocol).
_SLOT_ATTENTION_PARTS = {"train": (0, 60_000), "validation": None, "test": (60_000, 60_320)}

PROTOCOLS = {
    # AKOrN (Miyato et al. 2024): the border pixel and two more are cut off, 32x32 remain.
    "tetrominoes:akorn": _protocol(
        "tetrominoes/official", crop=(1, 1, 33, 33), num_clusters=4, **_AKORN_PARTS
    ),
    # Slot Attention (Locatello et al. 2020), as its reimplementations recall it.
    "tetrominoes:slot_attention": _protocol(
        "tetrominoes/official", num_clusters=4, **_SLOT_ATTENTION_PARTS
    ),
    # Krimmel et al.: 700k/150k/150k contiguous.
    "tetrominoes:krimmel": _protocol(
        "tetrominoes/official",
        train=(0, 700_000),
        validation=(700_000, 850_000),
        test=(850_000, 1_000_000),
        num_clusters=4,
    ),
    # GENESIS-V2 (Engelcke et al. 2021): 60k, of which 10k test, 10k validation; 32x32 nearest.
    "tetrominoes:genesis": _protocol(
        "tetrominoes/official",
        size=32,
        test=(0, 10_000),
        validation=(10_000, 20_000),
        train=(20_000, 60_000),
        num_clusters=4,
    ),
}

# The config that draws data of the same kind, for the variant `procedural` of a recipe.
PROCEDURAL = {"tetrominoes/official": "tetrominoes/procedural"}
