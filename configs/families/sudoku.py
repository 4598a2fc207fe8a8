"""Sudoku as in AKOrN's paper (arXiv 2410.13821): cross entropy, Adam, clipped gradients."""

from typing import Any

from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from configs import base, fields
from configs.protocols import protocol
from configs.published import published

VARIANTS = ("small", "small6", "small9", "procedural")
# Small variant -> its synthetic boards, their side, and boards per step.
_SMALL = {
    "small": ("procedural_4x4", 4, 100),
    "small6": ("procedural_6x6", 6, 50),
    "small9": ("procedural", 9, 50),
}


def boards(
    name: str, chosen: set[str], learning_rate: float, *, test_steps: int, **model: Any
) -> ConfigDict:
    """100 epochs of SATNet's 9,000 boards, or a small network on synthetic boards.

    Args:
        name: of the model.
        chosen: variants of `VARIANTS`.
        learning_rate: of the published settings.
        test_steps: T at evaluation, where the network is of the published size.
        model: arguments of the model.
    """
    config = base.get_config()
    config.data = protocol("sudoku_satnet:akorn", procedural="procedural" in chosen)
    config.published = published("sudoku_satnet:akorn")
    config.task = fields.task("boards")
    config.num_steps = 9_000
    config.batch_size = 100
    config.optimizer.learning_rate = learning_rate
    config.optimizer.clip_norm = 1.0
    config.ema.decay = 0.995
    config.ema.start = 100
    config.eval.options.num_steps = test_steps
    small = sorted(chosen & _SMALL.keys())
    if len(small) > 1:
        raise UserError(f"variants {', '.join(small)} exclude each other; choose one.")
    if small:
        data, size, config.batch_size = _SMALL[small[0]]
        config.data = protocol(f"sudoku_{data}:akorn", procedural=False)
        config.published = ()
        config.eval.options = ConfigDict()
        model |= {"size": size, "channels": 64, "heads": 4}
        model["num_steps"] = min(model["num_steps"], 8)
        config.num_steps = 2_000
        config.ema.decay = 0.0  # after so few steps an average lags far behind the last weights
        config.ema.every = 1
        config.optimizer.learning_rate = 2e-3
        config.optimizer.schedule = "cosine"
        config.optimizer.warmup_steps = 50
    config.model = fields.model(name, **{"channels": 512, **model})
    return config
