"""Slot Attention: the ClevrTex benchmark's, whose sizes and kinds are constants of the code."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/thirdparty/slot_attention/model.py"
VARIANTS = official.VARIANTS


def build(config: ConfigDict, images: int) -> official.Network:
    """`SlotAttentionAutoEncoder` of slot_attention/model.py."""
    del images  # it takes batches of any size
    model = config.model
    net = clevrtex.imported("thirdparty.slot_attention.model").SlotAttentionAutoEncoder(
        (3, model.image_size, model.image_size),
        num_slots=model.num_slots,
        num_iterations=model.num_iterations,
    )
    return official.Network(net, clevrtex.loss)
