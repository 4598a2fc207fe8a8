"""GNM on Tetrominoes; a recipe of ours, no paper's.

    python launch.py --config=configs/tetrominoes_gnm.py
    python launch.py --config=configs/tetrominoes_gnm.py:procedural        # on procedural data
    python launch.py --config=configs/tetrominoes_gnm.py:small,procedural  # minutes on a CPU core
    python launch.py --config=configs/tetrominoes_gnm.py --mode=sample     # scenes of the prior

As on CLEVR (configs/clevr_gnm.py), but for images of 32 x 32 pixels: layers of the encoder and the
decoders are left out, and boxes are about as large as a piece. The small recipe has 3 x 3 cells in
images of 24 pixels. docs/results/gnm.md has what was measured.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import gnm


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, gnm.VARIANTS)
    config = gnm.scenes(
        "tetrominoes:akorn",
        chosen,
        std=0.2,
        image_size=32,
        encoder_channels=(32, 64, 64, 128, 128),
        encoder_strides=(2, 1, 2, 1, 2),
        glimpse_channels=(64, 32, 16),
        background_channels=(64, 32, 16),
        background_upscales=(4, 4, 2),
    )
    config.model.size_prior = (-0.6, 0.2)  # 35 % of the image
    if "small" in chosen:
        config.data.crop = None
        config.data.train = (640, 12_000)
        config.data.max_records = 12_000
        config.data.size = config.model.image_size = 24
        config.model.background_size = 1
        config.model.background_upscales = (3, 4, 2)
        config.model.global_decoder = (128, 288)
        # Objects are likely until they explain something: while they explain nothing, all that they
        # cost would make them absent for good.
        config.task.weights.aux_where = ConfigDict({"name": "constant", "value": 1.0})
        config.task.options.bootstrap.boundaries = (1, 600)
        config.task.options.presence_prior.update({"start": 0.9, "begin": 200, "steps": 1_000})
        config.optimizer.learning_rate = 6e-4
        config.num_steps = 3_000
        config.checkpoint_every = 1_000
    return config
