"""DINOSAUR (arXiv 2209.14860), with the normalisations of arXiv 2407.04170 as variants."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from configs import base, fields
from configs.families import slot_attention
from configs.protocols import protocol
from configs.published import published

VARIANTS = (*slot_attention.VARIANTS, "features")

# Encoders that papers use: arguments of `akorn_jax.models.vit.Model`.
VIT_S8 = {"name": "vit", "image_size": 224, "patch_size": 8, "width": 384, "heads": 6}
VIT_B8 = {"name": "vit", "image_size": 224, "patch_size": 8, "width": 768, "heads": 12}


def explain_features(
    protocol_key: str, chosen: set[str], *, encoder: Mapping[str, Any], **model: Any
) -> ConfigDict:
    """Slots on the features of a frozen encoder, which `config.init_from` fills.

    Args:
        protocol_key: of configs/data.py.
        chosen: variants of `VARIANTS`; others are ignored.
        encoder: the name of a model and its arguments.
        model: arguments of `akorn_jax.models.dinosaur.Model`.
    """
    config = base.get_config()
    config.num_steps = 500_000
    config.batch_size = 64
    config.data = protocol(protocol_key, procedural="procedural" in chosen)
    config.published = published(protocol_key)
    config.model = fields.model("dinosaur", encoder=encoder, **model)
    config.task = fields.task("autoencoding", weights={"feature_mse": 1.0})
    if "features" in chosen:
        config.data.features = True
        config.task.inputs = "features"
    slot_attention.share(config, chosen)
    config.optimizer.decay_start = 10_000  # the rate halves from the end of its warm-up on
    config.optimizer.clip_norm = 1.0
    config.init_from.target = "encoder"
    config.eval.evaluators = "coarse_masks"
    return config
