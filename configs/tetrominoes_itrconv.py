"""ItrConv on Tetrominoes, a baseline of AKOrN (arXiv 2410.13821).

    python launch.py --config=configs/tetrominoes_itrconv.py
    python launch.py --config=configs/tetrominoes_itrconv.py:procedural  # on procedural data

The paper lists ItrConv's scores without a description; the model here is our own reading, see
akorn_jax/models/itrconv.py.

Published, on the original data (%, mean ± std over seeds): FG-ARI 59.0 ± 2.9, mBO 51.6 ± 2.2.
Measured here: docs/results.md.
"""

from ml_collections import ConfigDict

from configs import fields, variants
from configs.families import akorn


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    chosen = variants.choose(variant, ("procedural",))
    config = akorn.contrastive_discovery(
        "tetrominoes:akorn", size=32, procedural="procedural" in chosen
    )
    config.num_steps = 11_750
    config.model = fields.model("itrconv", channels=128, patch_size=4, image_size=32, kernel_size=5)
    return config
