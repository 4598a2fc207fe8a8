"""Agglomerator (arXiv 2203.03282) on synthetic scenes whose parts and wholes are known.

    python launch.py --config=configs/part_whole_agglomerator.py --workdir=runs/part_whole
    python launch.py --config=configs/part_whole_agglomerator.py:classify \\
        --config.init_from.path=runs/part_whole --workdir=runs/part_whole_classify
    python launch.py --config=configs/part_whole_agglomerator.py:small --workdir=runs/part_whole

Scenes of two wholes of two parts of two or three strokes each (datasets/scenes/part_whole.py); the
class is which two. Evaluation compares the islands of each level with strokes, parts and wholes.
`:procedural` changes nothing: the data are synthetic. `:small` takes minutes on a CPU.

256 columns of 64 features (the tokenizer halves the image once), the head reads means over squares
of 2x2 of them; 20,000 steps of 256 scenes, a peak rate of 1e-3. `:small` has 64 columns of 16
features, its head reads all of them, and it learns without labels: each image is its own class.

Measured: docs/results/agglomerator.md.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import agglomerator


def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("classify", "procedural", "small"))
    config = agglomerator.classes_and_islands(
        "part_whole_32:agglomerator",
        chosen | {"stable"},
        num_classes=6,
        image_size=32,
        downsample=4 if "small" in chosen else 2,
        channels=16 if "small" in chosen else 64,
        head_pool=1 if "small" in chosen else 2,
        embedding_size=64,
    )
    config.batch_size = 256
    agglomerator.one_cycle(config, 20_000, 1e-3)
    if "small" in chosen:
        agglomerator.few(config, num_steps=400)
        agglomerator.one_cycle(config, 400, 2e-3)
        config.batch_size = 32
        if "classify" not in chosen:
            config.task.labels = ""
    return config
