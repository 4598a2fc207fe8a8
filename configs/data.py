"""What each paper calls train, validation and test: slices of prepared splits, as data.

A protocol is `PROTOCOLS["<dataset>:<paper>"]`, with the fields

  name           what `tfds.builder` reads: "<dataset>/<config>" of ours, or a name of TFDS's own
  split          the prepared split that is sliced, or {"train": ..., "test": ...} where the set
                 comes split
  crop           (top, left, bottom, right) in pixels, or None
  size           side of the square the crop is resized to, or None
  interpolation  of images, "nearest" | "bilinear"; labels are always nearest, which takes source
                 index floor((i + .5) * scale)
  min_objects, max_objects   keep records with so many objects; None keeps all
  count          "visible": the largest label present after crop and resize
                 "listed": the sum of `visibility[1:]`, objects outside the crop included
                 "none": the records do not say
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


# AKOrN's converter (data preparation of the official code): in file order 64 scenes for a look,
# then test, validation and train.
_AKORN = {"test": (64, 384), "validation": (384, 10_384), "train": (10_384, 70_384)}
# Slot Attention (Locatello et al. 2020): 60,000 to train on, 320 after them to test; so IODINE.
_SLOT_ATTENTION = {"train": (0, 60_000), "validation": None, "test": (60_000, 60_320)}
# GENESIS-V2 (Engelcke et al. 2021): of the first records 10k test, 10k validation, the rest train.
_GENESIS = {"test": (0, 10_000), "validation": (10_000, 20_000)}
# The sets that come with splits of their own, each whole.
_OWN_SPLITS = {"train": (0, None), "validation": (0, None), "test": (0, None)}

_SQUARE_29 = (29, 64, 221, 256)  # IODINE's "centre" crop of CLEVR, as if it were 250 pixels high
_SQUARE_24 = (24, 64, 216, 256)  # the true centre

PROTOCOLS = {
    # AKOrN (Miyato et al. 2024): 32x32 remain of 35x35; 4 clusters.
    "tetrominoes:akorn": _protocol(
        "tetrominoes/official", crop=(1, 1, 33, 33), num_clusters=4, **_AKORN
    ),
    # Slot Attention (Locatello et al. 2020), as its reimplementations recall it.
    "tetrominoes:slot_attention": _protocol(
        "tetrominoes/official", num_clusters=4, **_SLOT_ATTENTION
    ),
    # IODINE (Greff et al. 2019): what Slot Attention took over.
    "tetrominoes:iodine": _protocol("tetrominoes/official", num_clusters=4, **_SLOT_ATTENTION),
    # Krimmel et al.: 700k/150k/150k contiguous.
    "tetrominoes:krimmel": _protocol(
        "tetrominoes/official",
        train=(0, 700_000),
        validation=(700_000, 850_000),
        test=(850_000, 1_000_000),
        num_clusters=4,
    ),
    # GENESIS-V2 (Engelcke et al. 2021): the first 60k, 32x32 nearest.
    "tetrominoes:genesis": _protocol(
        "tetrominoes/official", size=32, train=(20_000, 60_000), num_clusters=4, **_GENESIS
    ),
    # AKOrN: as they are; 7 clusters although there are at most 6 segments.
    "multi_dsprites:akorn": _protocol(
        "multi_dsprites/colored_on_grayscale", num_clusters=7, **_AKORN
    ),
    # Slot Attention: coloured sprites on grey, 6 slots.
    "multi_dsprites:slot_attention": _protocol(
        "multi_dsprites/colored_on_grayscale", num_clusters=6, **_SLOT_ATTENTION
    ),
    # IODINE: as Slot Attention.
    "multi_dsprites:iodine": _protocol(
        "multi_dsprites/colored_on_grayscale", num_clusters=6, **_SLOT_ATTENTION
    ),
    # GENESIS-V2: coloured sprites on colour, the first 60k.
    "multi_dsprites:genesis": _protocol(
        "multi_dsprites/colored_on_colored", train=(20_000, 60_000), num_clusters=5, **_GENESIS
    ),
    # AKOrN: CLEVR6 by what shows after the crop, everything nearest; 11 clusters; train is what
    # remains of the file, about 40,000.
    "clevr6:akorn": _protocol(
        "clevr_with_masks/official",
        crop=_SQUARE_29,
        size=128,
        max_objects=6,
        test=(64, 384),
        validation=(384, 10_384),
        train=(10_384, None),
        num_clusters=11,
    ),
    # Slot Attention: the scenes of the first 70k with at most 6 objects, 34,963 by DTI-Sprites'
    # count, and the 320 such scenes that follow.
    "clevr6:slot_attention": _protocol(
        "clevr_with_masks/official",
        crop=_SQUARE_29,
        size=128,
        interpolation="bilinear",
        max_objects=6,
        count="listed",
        train=(0, 34_963),
        validation=None,
        test=(34_963, 35_283),
        num_clusters=7,
    ),
    # Efficient MORL (Emami et al. 2021): the same with 96 x 96 pixels.
    "clevr6:efficient_morl": _protocol(
        "clevr_with_masks/official",
        crop=_SQUARE_29,
        size=96,
        interpolation="bilinear",
        max_objects=6,
        count="listed",
        train=(0, 34_963),
        validation=None,
        test=(34_963, 35_283),
        num_clusters=7,
    ),
    # Slot Attention's test on more objects than trained with: all of them, 11 slots.
    "clevr10:slot_attention": _protocol(
        "clevr_with_masks/official",
        crop=_SQUARE_29,
        size=128,
        interpolation="bilinear",
        train=(0, 70_000),
        validation=None,
        test=(70_000, 70_320),
        num_clusters=11,
    ),
    # Krimmel et al.: the true centre, everything nearest, 70k/15k/15k contiguous.
    "clevr10:krimmel": _protocol(
        "clevr_with_masks/official",
        crop=_SQUARE_24,
        size=128,
        train=(0, 70_000),
        validation=(70_000, 85_000),
        test=(85_000, 100_000),
        num_clusters=11,
    ),
    # Slot Attention's set prediction: CLEVR v1.0 itself, of which TFDS has a builder; whole
    # pictures, squashed. The last 512 of train, by index, are for monitoring.
    "clevr:slot_attention": _protocol(
        "clevr",
        split={"train": "train", "validation": "train", "test": "validation"},
        size=128,
        interpolation="bilinear",
        count="listed",
        train=(0, 69_488),
        validation=(69_488, 70_000),
        test=(0, 15_000),
        num_clusters=10,
    ),
    # ClevrTex's authors (Karazija et al. 2021) on CLEVR: test, validation, train by index.
    "clevr10:clevrtex": _protocol(
        "clevr_with_masks/official",
        crop=_SQUARE_24,
        size=128,
        interpolation="bilinear",
        test=(0, 15_000),
        validation=(15_000, 30_000),
        train=(30_000, 100_000),
        num_clusters=11,
    ),
    # GENESIS-V2: the first 70k.
    "clevr10:genesis": _protocol(
        "clevr_with_masks/official",
        crop=_SQUARE_24,
        size=128,
        train=(20_000, 70_000),
        num_clusters=11,
        **_GENESIS,
    ),
    # AKOrN's own set: 40,000, 1,000 and 1,000 in file order.
    "shapes:akorn": _protocol(
        "shapes/official",
        train=(0, 40_000),
        validation=(40_000, 41_000),
        test=(41_000, 42_000),
        num_clusters=5,
    ),
    # 3D Shapes: a random split of the sizes that SLATE's (Singh et al. 2022) was meant to have.
    "shapes3d:random": _protocol(
        "shapes3d/shuffled",
        train=(0, 400_000),
        validation=(400_000, 430_000),
        test=(430_000, 460_000),
        num_clusters=3,
    ),
    # SLATE's own slices of the file as it is: the hue of the floor is the slowest factor, so
    # validation and test are of two hues of which training has seen a third and nothing.
    "shapes3d:slate": _protocol(
        "shapes3d/official",
        train=(0, 400_000),
        validation=(400_001, 430_000),
        test=(430_001, 460_000),
        num_clusters=3,
    ),
    "shapes3d_procedural:random": _protocol(
        "shapes3d/procedural",
        test=(0, 1_000),
        validation=(1_000, 2_000),
        train=(2_000, 50_000),
        num_clusters=3,
    ),
    # Objects Room has no paper of ours: the training file, and its three tests.
    "objects_room:train": _protocol(
        "objects_room/train",
        train=(0, 980_000),
        validation=(980_000, 990_000),
        test=(990_000, 1_000_000),
        num_clusters=7,
    ),
}
for _test in ("empty_room", "six_objects", "identical_color"):
    PROTOCOLS[f"objects_room:{_test}"] = _protocol(
        f"objects_room/{_test}",
        train=None,
        validation=None,
        test=(0, None),
        num_clusters=4 if _test == "empty_room" else 10,
    )
# ClevrTex (Karazija et al. 2021): the true centre, PIL bilinear; AKOrN does the same.
for _variant in ("full", "pbg", "vbg", "grassbg", "camo", "outd"):
    _only_test = {"train": None, "validation": None} if _variant == "outd" else {}
    PROTOCOLS[f"clevrtex_{_variant}:clevrtex"] = _protocol(
        f"clevrtex/{_variant}",
        split={"train": "train", "validation": "validation", "test": "test"},
        crop=_SQUARE_24,
        size=128,
        interpolation="bilinear",
        num_clusters=11,
        **{**_OWN_SPLITS, **_only_test},
    )

# Krimmel et al. (arXiv 2407.04170): every frame of MOVi-C is a sample of its own; validation videos
# test, all of them; with eval.max_objects set, a bound on the training leaves them alone.
for _letter, _clusters in (("a", 11), ("b", 11), ("c", 11), ("d", 24), ("e", 24)):
    PROTOCOLS[f"movi_{_letter}:krimmel"] = _protocol(
        f"movi/{_letter}_256",
        split={"train": "train", "validation": "validation", "test": "validation"},
        count="listed",
        num_clusters=_clusters,
        **_OWN_SPLITS,
    )

# CLEVRTex-like data come unsplit; the same tenths by index.
for _variant, _count in (
    ("full", 50_000),
    ("pbg", 20_000),
    ("vbg", 20_000),
    ("grassbg", 20_000),
    ("camo", 20_000),
):
    PROTOCOLS[f"clevrtex_like_{_variant}:clevrtex"] = {
        **PROTOCOLS[f"clevrtex_{_variant}:clevrtex"],
        "name": f"clevrtex_like/{_variant}",
        "split": "train",
        "test": (0, _count // 10),
        "validation": (_count // 10, _count // 5),
        "train": (_count // 5, _count),
    }
PROTOCOLS["clevrtex_like_outd:clevrtex"] = {
    **PROTOCOLS["clevrtex_outd:clevrtex"],
    "name": "clevrtex_like/outd",
    "split": "train",
    "test": (0, 10_000),
}

# A synthetic control: the pieces of a scene share a colour, so colour tells nothing.
PROTOCOLS["tetrominoes_one_color:akorn"] = {
    **PROTOCOLS["tetrominoes:akorn"],
    "name": "tetrominoes/procedural_one_color",
}

# The arena's scenes: those where neither colour nor place nor connectedness tells what is an
# object, and Tetrominoes, where colour does; as many clusters as a scene has segments at most.
_ARENA = {"test": (0, 320), "validation": (320, 640), "train": (640, 20_640)}
PROTOCOLS["textured:arena"] = _protocol(
    "multi_dsprites/textured_procedural", size=32, num_clusters=5, **_ARENA
)
PROTOCOLS["textured_64:arena"] = _protocol(
    "multi_dsprites/textured_procedural_64", size=64, num_clusters=5, **_ARENA
)
PROTOCOLS["tetrominoes:arena"] = _protocol(
    "tetrominoes/procedural", crop=(1, 1, 33, 33), size=32, num_clusters=4, **_ARENA
)

# Agglomerator (Garau et al. 2022): a fifth of train is validation. That of Lightning's data modules
# is random by PyTorch's generator; here it is the end of the file, whose order is random already.
for _name, _dataset, _train, _validation, _test, _size in (
    ("mnist", "mnist_idx/mnist", 48_000, 60_000, 10_000, None),
    ("fashion_mnist", "mnist_idx/fashion_mnist", 48_000, 60_000, 10_000, None),
    ("cifar10", "cifar/10", 40_000, 50_000, 10_000, None),
    ("cifar100", "cifar/100", 40_000, 50_000, 10_000, None),
    ("small_norb", "small_norb/official", 38_880, 48_600, 48_600, 48),
):
    PROTOCOLS[f"{_name}:agglomerator"] = _protocol(
        _dataset,
        split={"train": "train", "validation": "train", "test": "test"},
        size=_size,
        interpolation="bilinear",
        count="none",
        train=(0, _train),
        validation=(_train, _validation),
        test=(0, _test),
        num_clusters=1,
    )
# AKOrN's recognition trains on all of train and looks at the test on the way.
PROTOCOLS["cifar10:akorn"] = _protocol(
    "cifar/10",
    split={"train": "train", "validation": "test", "test": "test"},
    count="none",
    train=(0, 50_000),
    validation=None,
    test=(0, 10_000),
    num_clusters=1,
)
# CIFAR-10-C: all severities, one after another; to evaluate on.
for _corruption in (
    *("brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost"),
    *("gaussian_blur", "gaussian_noise", "glass_blur", "impulse_noise", "jpeg_compression"),
    *("motion_blur", "pixelate", "saturate", "shot_noise", "snow", "spatter", "speckle_noise"),
    "zoom_blur",
):
    PROTOCOLS[f"cifar10_c_{_corruption}:akorn"] = _protocol(
        f"cifar10_c/{_corruption}",
        split="test",
        count="none",
        train=None,
        validation=None,
        test=(0, 50_000),
        num_clusters=1,
    )
# ImageNet: the published validation set is the test; as many images of train are held out.
PROTOCOLS["imagenet:agglomerator"] = _protocol(
    "imagenet_folder/288",
    split={"train": "train", "validation": "train", "test": "validation"},
    count="none",
    train=(50_000, None),
    validation=(0, 50_000),
    test=(0, 50_000),
    num_clusters=1,
)

# Sets that are ours or too small for a paper. The writers of the digits follow each other, so the
# test is of other writers than the rest.
PROTOCOLS["digits:writers"] = _protocol(
    "digits/official",
    count="none",
    train=(0, 1_000),
    validation=(1_000, 1_297),
    test=(1_297, 1_797),
    num_clusters=1,
)
for _size in (32, 28, 48):
    PROTOCOLS[f"part_whole_{_size}:agglomerator"] = _protocol(
        f"part_whole/procedural_{_size}",
        train=(0, 16_000),
        validation=(16_000, 18_000),
        test=(18_000, 20_000),
        num_clusters=3,
    )

# Sudoku as AKOrN has it: of SATNet's boards the first 9,000 and the last 1,000; all of RRN's tests.
PROTOCOLS["sudoku_satnet:akorn"] = _protocol(
    "sudoku/satnet",
    count="none",
    train=(0, 9_000),
    validation=None,
    test=(9_000, 10_000),
    num_clusters=1,
)
PROTOCOLS["sudoku_rrn:akorn"] = _protocol(
    "sudoku/rrn",
    split={"train": "train", "validation": "valid", "test": "test"},
    count="none",
    num_clusters=1,
    **_OWN_SPLITS,
)
for _boards in ("procedural", "procedural_6x6", "procedural_4x4"):
    PROTOCOLS[f"sudoku_{_boards}:akorn"] = _protocol(
        f"sudoku/{_boards}",
        count="none",
        train=(0, 9_000),
        validation=(9_000, 9_500),
        test=(9_500, 10_500),
        num_clusters=1,
    )
    PROTOCOLS[f"sudoku_{_boards}_hard:akorn"] = _protocol(
        f"sudoku/{_boards}_hard",
        count="none",
        train=None,
        validation=None,
        test=(0, 1_000),
        num_clusters=1,
    )

# RAVENS robot data, as HHousen's object-discovery-pytorch reads them: the middle 500 columns of all
# views, or with its "alternative crop" the table in the front view, squashed to a square.
for _name, _crop in (
    ("official", (0, 70, 480, 570)),
    ("first_view", (232, 50, 470, 590)),
):
    PROTOCOLS[f"ravens_{_name}:hhousen"] = _protocol(
        f"ravens/{_name}",
        split={"train": "train", "validation": "test", "test": "test"},
        crop=_crop,
        size=128,
        interpolation="bilinear",
        count="listed",
        num_clusters=12,
        **_OWN_SPLITS,
    )
# GENESIS-V2 on Sketchy: the prepared frames as they are, 10 slots.
PROTOCOLS["sketchy:genesis"] = _protocol(
    "sketchy/official",
    split={"train": "train", "validation": "validation", "test": "test"},
    count="none",
    num_clusters=10,
    **_OWN_SPLITS,
)
# What AKOrN's converter has already cut and split.
for _name, _clusters in (("tetrominoes", 4), ("multi_dsprites", 7), ("clevr6", 11)):
    PROTOCOLS[f"akorn_npz_{_name}:akorn"] = _protocol(
        f"akorn_npz/{_name}",
        split={"train": "train", "validation": "validation", "test": "test"},
        num_clusters=_clusters,
        **_OWN_SPLITS,
    )

# Pictures of one's own: config.data.raw_dir is their folder, split by a hash of their paths.
PROTOCOLS["folder"] = _protocol(
    "folder",
    split={part: part for part in ("train", "validation", "test")},
    size=128,
    count="listed",
    num_clusters=7,
    **_OWN_SPLITS,
)

# The config that draws data of the same kind, for the variant `procedural` of a recipe.
PROCEDURAL = {
    "tetrominoes/official": "tetrominoes/procedural",
    "shapes/official": "shapes/procedural",
    "shapes3d/official": "shapes3d/procedural",
    "shapes3d/shuffled": "shapes3d/procedural",
    "objects_room/train": "shapes3d/procedural",
    "clevr_with_masks/official": "clevr_with_masks/procedural",
    **{
        f"multi_dsprites/{kind}": f"multi_dsprites/{kind}_procedural"
        for kind in ("binarized", "colored_on_grayscale", "colored_on_colored")
    },
    **{f"movi/{letter}_256": "clevrtex_like/full" for letter in "abcde"},
    **{f"ravens/{kind}": "clevrtex_like/full" for kind in ("official", "first_view")},
    "sketchy/official": "clevrtex_like/full",
    **{
        f"clevrtex/{kind}": f"clevrtex_like/{kind}"
        for kind in ("full", "pbg", "vbg", "grassbg", "camo", "outd")
    },
    # Images with a class: other pictures of the same size.
    **{f"mnist_idx/{kind}": "part_whole/procedural_28" for kind in ("mnist", "fashion_mnist")},
    **{f"cifar/{kind}": "part_whole/procedural_32" for kind in ("10", "100")},
    "digits/official": "part_whole/procedural_28",
    "small_norb/official": "part_whole/procedural_48",
    "imagenet_folder/288": "part_whole/procedural_48",
    **{f"part_whole/procedural_{size}": f"part_whole/procedural_{size}" for size in (28, 32, 48)},
    "sudoku/satnet": "sudoku/procedural",
    "sudoku/rrn": "sudoku/procedural_hard",
}
