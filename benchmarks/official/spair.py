"""SPAIR: the ClevrTex benchmark's."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/spair.py"
VARIANTS = official.VARIANTS


def build(config: ConfigDict, images: int) -> official.Network:
    """`SPAIR` of spair.py, but for a linear map that nothing reads."""
    del images  # it takes batches of any size
    model = config.model
    net = clevrtex.imported("spair").SPAIR(
        patch_size=(3, model.glimpse_size, model.glimpse_size),
        anchor=model.anchor_size,
        passf=model.pass_size,
        what_dim=model.what_size,
        bg_dim=model.background_size,
        rein=False,
        large=model.backbone == "large",
    )
    net.baseline.requires_grad_(False)
    return official.Network(net, clevrtex.loss, fullgraph=False)
