"""SPACE: the ClevrTex benchmark's, whose sizes are constants of the code."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/thirdparty/space/model.py"
# Not channels_last, whose maps its `view`s cannot flatten.
VARIANTS = ("eager", "compile")

STEP = 1000  # of the schedules


def build(config: ConfigDict, images: int) -> official.Network:
    """`Space` of space/model.py."""
    del images  # it takes batches of any size
    module = clevrtex.imported("thirdparty.space.model")
    module.arch.fg_sigma = config.model.foreground_std
    module.arch.bg_sigma = config.model.background_std
    return official.Network(module.Space(), lambda net, x: net(x, STEP)["loss"], fullgraph=False)
