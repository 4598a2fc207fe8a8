"""GENESIS-V2: the ClevrTex benchmark's copy of the authors' code."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/thirdparty/genesis2/model.py"
VARIANTS = official.VARIANTS


def build(config: ConfigDict, images: int) -> official.Network:
    """`GenesisV2` of genesis2/model.py, whose GECO reads a number in each step."""
    del images  # it takes batches of any size
    model = config.model
    net = clevrtex.imported("thirdparty.genesis2.model").GenesisV2(
        feat_dim=model.features,
        kernel=model.kernel,
        semiconv=model.semi_conv,
        K_steps=model.num_slots,
        img_size=model.image_size,
        autoreg_prior=model.prior == "autoregressive",
        pixel_std=model.std,
    )
    return official.Network(net, clevrtex.loss, fullgraph=False)
