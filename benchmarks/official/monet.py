"""MONet: the ClevrTex benchmark's, whose widths are constants of the code."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/monet.py"
VARIANTS = official.VARIANTS


def build(config: ConfigDict, images: int) -> official.Network:
    """`MONet` of monet.py, in which the least of a generator breaks the graph."""
    del images  # it takes batches of any size
    model = config.model
    net = clevrtex.imported("monet").MONet(
        n_slots=model.num_slots,
        numb=model.num_levels,
        shape=(3, model.image_size, model.image_size),
        z_dim=model.latent_size,
        bg_scl=model.background_std,
        fg_scl=model.foreground_std,
    )
    return official.Network(net, clevrtex.loss, fullgraph=False)
