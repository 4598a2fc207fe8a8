"""ItrSA: the repository of AKOrN."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import akorn

REPOSITORY = akorn.REPOSITORY
MARKER = "source/models/objs/vit.py"
VARIANTS = official.VARIANTS


def build(config: ConfigDict, images: int) -> official.Network:
    """`ViT` of source/models/objs/vit.py."""
    model = config.model
    names = akorn.COMMON | {"num_layers": "blocks"}
    arguments = {theirs: model[ours] for ours, theirs in names.items()}
    make = official.imported("source.models.objs.vit").ViT
    net = make(**arguments, mlp_dim=model.mlp_dim or 2 * model.channels)
    return akorn.contrastive(net, config, images)
