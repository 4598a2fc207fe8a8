"""AKOrN: its own repository, on NT-Xent of pairs of views."""

from ml_collections import ConfigDict

from benchmarks import official

REPOSITORY = "github.com/autonomousvision/akorn"
MARKER = "source/models/objs/knet.py"
VARIANTS = official.VARIANTS

# Its arguments by the names of ours.
COMMON = {
    "channels": "ch",
    "num_steps": "T",
    "patch_size": "psize",
    "image_size": "imsize",
    "heads": "heads",
    "gta": "gta",
}
OWN = {
    "num_layers": "L",
    "oscillator_dim": "n",
    "connectivity": "J",
    "kernel_size": "ksize",
    "stimulus_norm": "c_norm",
    "gamma": "gamma",
    "use_omega": "use_omega",
}


def build(config: ConfigDict, images: int) -> official.Network:
    """`AKOrN` of source/models/objs/knet.py."""
    arguments = {theirs: config.model[ours] for ours, theirs in (COMMON | OWN).items()}
    make = official.imported("source.models.objs.knet").AKOrN
    return contrastive(make(**arguments, autorescale=False), config, images)


def contrastive(net: official.Module, config: ConfigDict, images: int) -> official.Network:
    """A network under NT-Xent, as the training script takes it."""
    torch = official.imported("torch")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    partner = torch.arange(images, device=device).roll(images // 2)
    itself = torch.eye(images, device=device)

    def loss(forward: official.Module, views: official.Tensor) -> official.Tensor:
        z = torch.nn.functional.normalize(forward(views))
        z = torch.cat([z[0::2], z[1::2]])
        logits = z @ z.T / config.task.temperature - 1e8 * itself
        return torch.nn.functional.cross_entropy(logits, partner)

    return official.Network(net, loss)
