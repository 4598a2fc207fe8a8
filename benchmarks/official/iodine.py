"""IODINE: the ClevrTex benchmark's."""

import math

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/iodine.py"
VARIANTS = official.VARIANTS


def build(config: ConfigDict, images: int) -> official.Network:
    """`IODINE` of iodine.py, which takes gradients within its forward pass."""
    model = config.model
    net = clevrtex.imported("iodine").IODINE(
        batch_size=images,
        input_size=(3, model.image_size, model.image_size),
        z_size=model.slot_size,
        K=model.num_slots,
        inference_iters=model.num_iterations,
        log_scale=math.log(model.std),
        lstm_dim=model.hidden_size,
        conv_channels=model.channels,
    )
    return official.Network(net, clevrtex.loss, fullgraph=False)
