"""The training step of a system's official PyTorch code, from a clone that the user made.

`NAME.py` beside this file is for `akorn_jax/models/NAME.py` and found by that name. It has

    REPOSITORY                       what to clone, e.g. "github.com/autonomousvision/akorn"
    MARKER                           a file of the clone, by which a directory is known to be one
    FOLDER                           of the clone, where its modules are if not at the top
    VARIANTS                         those of `VARIANTS` here that the code runs in
    build(config, images) -> Network of the size of a recipe's config, for batches of so many images

and imports what is the clone's by `imported`, in `build`.
"""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from akorn_jax import run_config
from akorn_jax.errors import UserError

VARIANTS = ("eager", "channels_last", "compile")

RATE = 1e-4  # of the optimizer: it costs as much at any, and recipes have schedules

Module = Any  # torch.nn.Module; PyTorch is imported where it is needed
Tensor = Any


class Network(NamedTuple):
    """What an entry builds.

    Attributes:
        net: what is trained; parameters that need no gradient are not.
        loss: of (net or its compiled form, images `[N, 3, H, W]` in [0, 1]).
        fullgraph: `torch.compile` must take the network as one graph, so that what it cannot
            compile is an error, not a slow detour. False where the code breaks the graph.
    """

    net: Module
    loss: Callable[[Module, Tensor], Tensor]
    fullgraph: bool = True


class Official:
    """Official code in the clones that a user has; needs PyTorch.

    Args:
        directories: of clones, in which the code of a system is looked for.

    Raises:
        UserError: one of them is no clone of a known repository, or there is no PyTorch.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._clones = [Path(directory).resolve() for directory in directories]
        known = [entry(name) for name in names()]
        for clone in self._clones:
            if not any((clone / module.MARKER).exists() for module in known):
                repositories = ", ".join(dict.fromkeys(module.REPOSITORY for module in known))
                raise UserError(
                    f"--baseline={clone}: is no clone of an official repository ({repositories})."
                )
        self._torch = imported("torch")

    @property
    def settings(self) -> dict[str, Any]:
        """What its speed depends on."""
        return {"torch": self._torch.__version__, "threads": self._torch.get_num_threads()}

    def variants(self, config: ConfigDict) -> tuple[str, ...]:
        """What the code of a config's system runs in; nothing where no clone has it."""
        found = self._clone(config.model.name) is not None
        return entry(config.model.name).VARIANTS if found else ()

    def step(
        self, config: ConfigDict, images: int, variant: str, parameters: int
    ) -> Callable[[], None]:
        """A function that makes one training step on `images` images that are given.

        It is the step of its training script without the averaging of the weights: forward, loss,
        backward, the clipping of the gradient and the optimizer, in float32.

        Args:
            config: of one of our recipes.
            images: that the network sees in a step.
            variant: of `variants(config)`.
            parameters: how many our network has; another number is a `ValueError`.
        """
        torch = self._torch
        self.enter(config.model.name)
        net, loss, fullgraph = entry(config.model.name).build(config, images)
        for parameter in net.parameters():  # some share memory on a CPU, in no training run though
            parameter.data = parameter.data.clone()
        trained = [p for p in net.parameters() if p.requires_grad]
        if sum(p.numel() for p in trained) != parameters:
            raise ValueError(f"{sum(p.numel() for p in trained)} parameters, not {parameters}")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        net, views = net.to(device), torch.rand(images, 3, *run_config.input_size(config))
        views = views.to(device)
        if variant == "channels_last":
            for parameter in net.parameters():
                if parameter.ndim == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
            views = views.to(memory_format=torch.channels_last)
        forward = net
        if variant == "compile":
            forward = torch.compile(net, fullgraph=fullgraph, dynamic=False)
        optimizers = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "rmsprop": torch.optim.RMSprop,
        }
        update = optimizers[config.optimizer.name](trained, lr=RATE)

        def step() -> None:
            update.zero_grad()
            loss(forward, views).backward()
            if config.optimizer.clip_norm:
                torch.nn.utils.clip_grad_norm_(trained, config.optimizer.clip_norm)
            update.step()
            if device == "cuda":
                torch.cuda.synchronize()

        return step

    def enter(self, name: str) -> None:
        """Lets a system's modules be imported, and forgets those of the other clones.

        Several clones have a `utils`.
        """
        clone = self._clone(name)
        for module, loaded in list(sys.modules.items()):
            file = Path(getattr(loaded, "__file__", None) or "")
            if any(file.is_relative_to(other) for other in self._clones if other != clone):
                del sys.modules[module]
        sys.path.insert(0, str(clone / getattr(entry(name), "FOLDER", "")))

    def _clone(self, name: str) -> Path | None:
        """The first clone that has the code of a system."""
        if name not in names():
            return None
        marker = entry(name).MARKER
        return next((clone for clone in self._clones if (clone / marker).exists()), None)


def names() -> list[str]:
    """The systems whose official code is known here."""
    files = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return [name for name in files if importlib.util.find_spec(f"akorn_jax.models.{name}")]


def entry(name: str) -> ModuleType:
    """The module of a system, see above."""
    return importlib.import_module(f"benchmarks.official.{name}")


def imported(module: str) -> ModuleType:
    """A module of a clone, or one that it needs.

    Raises:
        UserError: it, or what it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"--baseline: {error}; install what the official code needs.") from error


def require(config: ConfigDict, choices: Mapping[str, Collection[Any]]) -> None:
    """Refuses a config that the official code has no counterpart of.

    Args:
        config: of a recipe.
        choices: what the official code has, by the field's name, e.g. "model.downsample".

    Raises:
        UserError: a field is something else.
    """
    for field, values in choices.items():
        value = functools.reduce(lambda where, name: where.get(name), field.split("."), config)
        if value not in values:
            known = ", ".join(map(repr, values))
            raise UserError(f"--baseline: config.{field}={value!r}; the official code has {known}.")
