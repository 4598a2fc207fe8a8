"""The training step of the official PyTorch implementation, from a clone that the user made."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from akorn_jax.errors import UserError

VARIANTS = ("eager", "channels_last", "compile")

# Its arguments by the names of ours.
_COMMON = {
    "channels": "ch",
    "num_steps": "T",
    "patch_size": "psize",
    "image_size": "imsize",
    "heads": "heads",
    "gta": "gta",
}
_AKORN = {
    "num_layers": "L",
    "oscillator_dim": "n",
    "connectivity": "J",
    "kernel_size": "ksize",
    "stimulus_norm": "c_norm",
    "gamma": "gamma",
    "use_omega": "use_omega",
}


class Official:
    """Networks of a clone of github.com/autonomousvision/akorn; needs PyTorch.

    Args:
        directory: of the clone.

    Raises:
        UserError: there is no such clone, or no PyTorch.
    """

    def __init__(self, directory: str) -> None:
        if not (Path(directory) / "source" / "models" / "objs" / "knet.py").exists():
            raise UserError(f"--baseline={directory}: is no clone of the official repository.")
        try:
            self._torch = importlib.import_module("torch")
        except ImportError as error:
            raise UserError("--baseline: needs PyTorch; run `pip install torch`.") from error
        sys.path.insert(0, directory)
        try:
            self._makers = {
                "akorn": importlib.import_module("source.models.objs.knet").AKOrN,
                "itrsa": importlib.import_module("source.models.objs.vit").ViT,
            }
        except ImportError as error:
            raise UserError(f"--baseline={directory}: {error}; install what it needs.") from error

    @property
    def settings(self) -> dict[str, Any]:
        """What its speed depends on."""
        return {"torch": self._torch.__version__, "threads": self._torch.get_num_threads()}

    def has(self, config: ConfigDict) -> bool:
        """Whether it has the network of a config."""
        return config.model.name in self._makers

    def step(
        self, config: ConfigDict, images: int, variant: str, parameters: int
    ) -> Callable[[], None]:
        """A function that makes one training step on `images` views that are given.

        It is the step of its training script without the averaging of the weights: forward,
        NT-Xent, backward and Adam, in float32.

        Args:
            config: of one of our recipes.
            images: that the network sees in a step.
            variant: of `VARIANTS`.
            parameters: how many our network has; another number is a `ValueError`.
        """
        torch, model = self._torch, config.model
        if model.name == "akorn":
            names = _COMMON | _AKORN
            extra = {"autorescale": False}
        else:
            names = _COMMON | {"num_layers": "blocks"}
            extra = {"mlp_dim": model.mlp_dim or 2 * model.channels}
        arguments = {theirs: model[ours] for ours, theirs in names.items()}
        net = self._makers[model.name](**arguments, **extra)
        for parameter in net.parameters():  # some share memory on a CPU, in no training run though
            parameter.data = parameter.data.clone()
        trained = [p for p in net.parameters() if p.requires_grad]
        if sum(p.numel() for p in trained) != parameters:
            raise ValueError(f"{sum(p.numel() for p in trained)} parameters, not {parameters}")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        net, views = net.to(device), torch.rand(images, 3, model.image_size, model.image_size)
        views = views.to(device)
        if variant == "channels_last":
            net, views = (x.to(memory_format=torch.channels_last) for x in (net, views))
        # With `fullgraph` whatever it cannot compile is an error, not a slow detour.
        forward = torch.compile(net, fullgraph=True) if variant == "compile" else net
        adam = torch.optim.Adam(trained, lr=config.optimizer.learning_rate)
        partner = torch.arange(images, device=device).roll(images // 2)
        itself = torch.eye(images, device=device)

        def step() -> None:
            adam.zero_grad()
            z = torch.nn.functional.normalize(forward(views))
            z = torch.cat([z[0::2], z[1::2]])
            logits = z @ z.T / config.task.temperature - 1e8 * itself
            torch.nn.functional.cross_entropy(logits, partner).backward()
            adam.step()
            if device == "cuda":
                torch.cuda.synchronize()

        return step
