"""SPACE on Tetrominoes; a recipe of ours, no paper's (configs/clevr_space.py is).

    python launch.py --config=configs/tetrominoes_space.py
    python launch.py --config=configs/tetrominoes_space.py:procedural        # on procedural data
    python launch.py --config=configs/tetrominoes_space.py:small,procedural  # minutes on a CPU core
    python launch.py --config=configs/tetrominoes_space.py --mode=sample     # backgrounds

Cells of 8 pixels in images of 32, and boxes about as large as a piece; otherwise as on CLEVR.
docs/results/space.md has what was measured.

In the small recipe the background is as weak as it can be, and its pixels deviate less than the
objects': what is not alike in all scenes is left to these. Objects are likely until they explain
something, and presence ends at a temperature at which it is hardly ever between 0 and 1.
"""

from ml_collections import ConfigDict

from configs import variants
from configs.families import space

SCALE_PRIOR = -0.5  # 38 % of the image


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, space.VARIANTS)
    config = space.scenes("tetrominoes:akorn", chosen)
    if "small" not in chosen:
        config.task = space.task(space.PRESENCE_PRIOR, SCALE_PRIOR)
        config.model.image_size = 32
        config.model.grid_size = 4
        return config
    config.model.update({"glimpse_size": 16, "mask_size": 1, "component_size": 1})
    config.model.update({"background_std": 0.07, "scale_prior_std": 0.15})
    presence_prior = {
        "name": "piecewise",
        "values": (0.5, 0.1, 0.03, 0.01),
        "boundaries": (300, 600, 1_000),
    }
    config.task = space.task(presence_prior, SCALE_PRIOR, space.linear(1.0, 0.5, 0, 1_000))
    config.optimizer.groups = (("foreground/.*", {"name": "adam", "learning_rate": 1e-3}),)
    config.data.train = (640, 12_000)
    config.data.max_records = 12_000
    return config
