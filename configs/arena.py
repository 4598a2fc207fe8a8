"""The arena: every system of the house, small, on the same scenes (benchmarks/arena).

    python launch.py --config=configs/arena.py:akorn
    python launch.py --config=configs/arena.py:monet,tetrominoes

The first variant is a system: :akorn, :akorn_conv, :itrsa, :itrconv, :vit, :slot_attention, :monet,
:genesis_v2, :iodine, :efficient_morl, :spair, :space, :gnm, :slate, :dinosaur, :dti_sprites or
:marionette. The second are scenes: :textured, which is the default, :textured_64 or :tetrominoes.

A system keeps its own small recipe; what changes is what all must share: the scenes, their size
and parts, the number of slots, and evaluation by segments. On textured sprites contrastive systems
have views of their own (`TEXTURED_VIEWS` of configs/families/akorn.py). DINOSAUR explains the
features of an AKOrN that was trained on the same scenes: `--config.init_from.path=RUN`.
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from configs import variants
from configs.families.akorn import TEXTURED_VIEWS
from configs.protocols import protocol


@dataclasses.dataclass(frozen=True)
class System:
    """One row of the arena.

    Attributes:
        title: what it is called.
        recipe: its small recipe, `file:variants`.
        fields: of the model, where the recipe's are for other scenes than these.
        features_of: the system whose trained features it explains, if it does.
    """

    title: str
    recipe: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    features_of: str = ""


SYSTEMS = {
    "akorn": System("AKOrN, attentive", "demo"),
    "akorn_conv": System("AKOrN, convolutional", "demo:conv"),
    "itrsa": System("ItrSA", "demo:itrsa"),
    "itrconv": System("ItrConv", "demo:itrconv"),
    "vit": System("ViT", "demo:vit"),
    "slot_attention": System("Slot Attention", "dsprites_slot_attention:small,procedural"),
    "monet": System("MONet", "dsprites_monet:small,procedural"),
    "genesis_v2": System("GENESIS-V2", "dsprites_genesis_v2:small,procedural"),
    "iodine": System("IODINE", "dsprites_iodine:small,procedural"),
    "efficient_morl": System("Efficient MORL", "dsprites_efficient_morl:small,procedural"),
    "spair": System("SPAIR", "dsprites_spair:small,procedural"),
    "space": System("SPACE", "dsprites_space:small,procedural"),
    "gnm": System("GNM", "dsprites_gnm:small,procedural"),
    "slate": System("SLATE", "shapes3d_slate:small,procedural"),
    "dinosaur": System("DINOSAUR", "tetrominoes_dinosaur:small,procedural", features_of="akorn"),
    "dti_sprites": System(
        "DTI-Sprites",
        "dsprites_dti_sprites:small,procedural",
        {"num_sprites": 6, "sprite_size": 20, "mask_std": 5.0},
    ),
    "marionette": System("MarioNette", "dsprites_marionette:small,procedural"),
}
# Models of the house that are not in the arena, and why.
ABSENT = {
    "agglomerator": "learns from the classes of images, which these scenes do not have, and gives "
    "levels of features, no segments.",
    "akorn_classifier": "names the class of an image, and gives no segments.",
    "resnet_classifier": "names the class of an image, and gives no segments.",
    "akorn_sudoku": "completes boards, which have no pixels.",
    "itrsa_sudoku": "completes boards, which have no pixels.",
    "set_prediction": "learns the properties of objects from labels, and gives no segments.",
    "vit": "is DINO's, pretrained, whose features DINOSAUR explains; the ViT here is trained.",
}
SCENES = {name: f"{name}:arena" for name in ("textured", "textured_64", "tetrominoes")}

# What a schedule counts steps by, besides `num_steps` of the training.
_STEPS = ("steps", "begin", "boundaries", "warmup_steps", "decay_steps", "decay_start")


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, (*SYSTEMS, *SCENES))
    systems = [name for name in SYSTEMS if name in chosen] or ["akorn"]
    scenes = [name for name in SCENES if name in chosen] or ["textured"]
    for names in (systems, scenes):
        if len(names) > 1:
            raise UserError(f"variants {', '.join(names)} exclude each other; choose one.")
    config = small(systems[0])
    textured = scenes[0].startswith("textured")
    place(
        config,
        SCENES[scenes[0]],
        fields=SYSTEMS[systems[0]].fields,
        views=TEXTURED_VIEWS if textured else {},
    )
    return config


def small(system: str) -> ConfigDict:
    """The small recipe of a system, on the data that it was made for."""
    name, _, variant = SYSTEMS[system].recipe.partition(":")
    return importlib.import_module(f"configs.{name}").get_config(variant)


def place(
    config: ConfigDict,
    protocol_key: str,
    *,
    fields: Mapping[str, Any] = MappingProxyType({}),
    views: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Puts a recipe on the scenes of a protocol, with as many slots as these have segments.

    Args:
        config: changed in place. What says how large images are, and how many slots or layers of
            sprites there are, follows the protocol; so does the error that GECO aims at, which is
            a sum over pixels.
        protocol_key: of configs/data.py, with square images of a `size`.
        fields: of the model.
        views: of the augmentation, where there is one.
    """
    config.data = protocol(protocol_key, procedural=False)
    config.published = ()
    size, num_segments = config.data.size, config.data.num_clusters
    config.model.update(resized(config.model.to_dict(), size))
    config.model.update(fields)
    if "num_slots" in config.model:
        config.model.num_slots = num_segments
    if config.task.name == "contrastive":
        config.task.augmentation.update({"size": size, **views})
    if config.task.name == "sprite_clustering":
        config.model.num_layers = config.task.num_layers = num_segments - 1
        config.task.num_choices = config.model.num_sprites + config.model.empty_sprite
    config.eval.evaluators = "segmentation"


def stretch(config: ConfigDict, num_steps: int) -> None:
    """Trains for `num_steps`, with all schedules as much longer or shorter as the training is."""
    share = num_steps / config.num_steps
    config.num_steps = num_steps
    with config.ignore_type():
        config.optimizer = ConfigDict(_stretched(config.optimizer.to_dict(), share))
        config.task = ConfigDict(_stretched(config.task.to_dict(), share))


def resized(tree: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Fields of a model for images of another size, cut into as many patches as before."""
    before = tree.get("image_size")

    def field(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return resized(value, size)
        if name == "image_size":
            return size
        if name == "patch_size" and before:
            return max(1, value * size // before)
        return value

    return {name: field(name, value) for name, value in tree.items()}


def _stretched(value: Any, share: float, name: str = "") -> Any:
    """A tree of settings with all numbers of steps multiplied."""
    if isinstance(value, Mapping):
        return {key: _stretched(v, share, key) for key, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return type(value)(_stretched(v, share, name) for v in value)
    if name in _STEPS and value:
        return max(1, round(value * share))
    return value
