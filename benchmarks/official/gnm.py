"""GNM: the ClevrTex benchmark's, whose sizes are constants of the code."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/thirdparty/gnm/model.py"
# Not channels_last, whose maps its `view`s cannot flatten.
VARIANTS = ("eager", "compile")

STEP = 1000  # behind the bootstrap


def build(config: ConfigDict, images: int) -> official.Network:
    """`GNM` of gnm/model.py."""
    del images  # it takes batches of any size
    module = clevrtex.imported("thirdparty.gnm.model")
    args = module.hyperparam_anneal(module.arrow_args, STEP)
    args.const.likelihood_sigma = config.model.std
    args.z.z_what_dim = config.model.what_size
    args.z.z_bg_dim = config.model.background_size
    net = module.GNM(args)
    return official.Network(net, lambda net, x: net(x, STEP)["loss"], fullgraph=False)
