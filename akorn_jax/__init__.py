"""Object-centric learning in JAX: unsupervised object discovery by AKOrN and the systems beside it.

    run = akorn_jax.load_run("runs/clevr")          # a run's weights, averaged
    labels = run.segment(images)                    # [N, H, W] of images [N, H, W, 3] uint8
    output = run(images)                            # everything that the model gives

    run = akorn_jax.load_pretrained("ema_499.pth", config)      # official weights

Submodules are imported when they are asked for.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

_FROM = {
    "load_run": "akorn_jax.pretrained",
    "load_pretrained": "akorn_jax.pretrained",
    "Pretrained": "akorn_jax.pretrained",
    "ModelOutput": "akorn_jax.outputs",
}
_SUBMODULES = (
    *("convert", "data", "errors", "evaluate", "evaluation", "layers", "losses", "metrics"),
    *("models", "optimizer", "outputs", "pretrained", "report", "run_config", "runtime"),
    *("tasks", "train", "training"),
)
__all__ = [*_FROM, *_SUBMODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"akorn_jax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
