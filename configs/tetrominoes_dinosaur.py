"""Slots on the features of a trained AKOrN (DINOSAUR, arXiv 2209.14860) on Tetrominoes.

    python launch.py --config=configs/tetrominoes_akorn.py:procedural --workdir=DIR
    python launch.py --config=configs/tetrominoes_dinosaur.py:procedural --config.init_from.path=DIR
    python launch.py --config=configs/tetrominoes_dinosaur.py:small,procedural  # on CPUs, see below

No paper has this. AKOrN's features are published with average linkage into a number of clusters
that has to be known; here slots learn to explain them, and decode masks that are finer than the
8x8 features. Both are scored on the same features, which change with the random oscillators that
AKOrN starts from; with `:features` they are computed once. The variants `:weighted_sum`,
`:batch_norm`, `:layer_norm` and `:implicit` are those of configs/movi_c_dinosaur.py.

Two things differ from DINOSAUR on a ViT. AKOrN's attention is relative, so its features do not tell
where they are: positions are added to what the slots attend to (model.position). And they do not
come out of a norm: each dimension is standardized over the data (model.standardize).

`:small` has the AKOrN of configs/demo.py, whose checkpoint comes with the repository, and the
scenes that it was trained and tested on. Measured: docs/results/dinosaur.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from configs import variants
from configs.families import dinosaur

DEMO = Path(__file__).parents[1] / "docs" / "checkpoints" / "tetrominoes_akorn"


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, (*dinosaur.VARIANTS, "small"))
    small = "small" in chosen
    encoder = {"name": "akorn", "patch_size": 4, "image_size": 32, "autorescale": False}
    encoder |= {"channels": 32, "heads": 2, "num_steps": 4} if small else {"channels": 128}
    config = dinosaur.explain_features(
        "tetrominoes:akorn",
        chosen,
        encoder=encoder,
        grid=(8, 8),
        feature_size=encoder["channels"],
        standardize=True,
        position=True,
        num_slots=4,
        slot_size=32 if small else 64,
        hidden_size=128,
        decoder_size=64 if small else 512,
    )
    config.num_steps = 50_000
    config.optimizer.warmup_steps = 1_000
    config.optimizer.decay_start = 1_000
    config.optimizer.decay_steps = 20_000
    if small:
        config.init_from.path = str(DEMO)
        config.num_steps = 2_500
        config.optimizer.learning_rate = 2e-3
        config.optimizer.warmup_steps = 100
        config.optimizer.decay_start = 100
        config.optimizer.decay_steps = 1_000
        config.optimizer.clip_norm = 10.0
        config.data.train, config.data.validation = (384, 20_384), (64, 384)
        config.data.max_records = 20_384
        config.checkpoint_every = 500
    return config
