"""What the systems of the ClevrTex benchmark's repository share."""

from typing import Any

from benchmarks import official

REPOSITORY = "github.com/karazijal/clevrtex"
MODELS = "ool/picture/models"
SUCCESSORS = {"product": "prod", "object": "object_"}  # of names that numpy no longer has


def imported(module: str) -> Any:
    """A module below `ool.picture.models`, whose code is older than numpy 2."""
    numpy = official.imported("numpy")
    for name, successor in SUCCESSORS.items():
        if name not in vars(numpy):
            setattr(numpy, name, getattr(numpy, successor))
    return official.imported(f"ool.picture.models.{module}")


def loss(forward: official.Module, images: official.Tensor) -> official.Tensor:
    """What its networks return as "loss"."""
    return forward(images)["loss"]
