"""Agglomerator (arXiv 2203.03282) on scikit-learn's handwritten digits, 8x8: minutes on a CPU.

    python launch.py --config=configs/digits_agglomerator.py --workdir=runs/digits
    python launch.py --config=configs/digits_agglomerator.py:classify \\
        --config.init_from.path=runs/digits --workdir=runs/digits_classify

The first command pre-trains by class (SupCon), the second trains the classifier on what is then
frozen; both evaluate on the writers that training has not seen. `:small` is the same, which is
small already; `:procedural` is on synthetic scenes of 28x28.

Departures from the published settings: 16 columns (no stride in the tokenizer) of 32 features, 64
numbers of an embedding; 128 images a step; a peak rate of 1e-3; 1,500 steps. 1,000 digits train,
297 are for choosing settings, the last 500 test.

Measured: docs/results/agglomerator.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import agglomerator


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("classify", "procedural", "small"))
    config = agglomerator.classes_and_islands(
        "digits:writers",
        (chosen | {"stable"}) - {"small"},
        num_classes=10,
        image_size=8,
        downsample=2,
        channels=32,
        embedding_size=64,
    )
    config.batch_size = 128
    config.checkpoint_every = 500
    agglomerator.one_cycle(config, 1_500, 1e-3)
    return config
