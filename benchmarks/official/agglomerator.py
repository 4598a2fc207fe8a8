"""Agglomerator: the authors' own repository, whose first phase is ours: pre-training by class."""

from types import SimpleNamespace

from ml_collections import ConfigDict

from benchmarks import official

REPOSITORY = "github.com/mmlab-cv/Agglomerator"
FOLDER = "src"
MARKER = "src/flags_Agglomerator.py"
VARIANTS = official.VARIANTS

CHOICES = {
    "task.name": ("contrastive",),
    "task.normalize": (True,),
    "model.downsample": (4,),
    "model.head_pool": (1,),
    "model.normalize_by_count": (True,),
}


def build(config: ConfigDict, images: int) -> official.Network:
    """`Agglomerator` of src/models.py under `SupConLoss` of src/utils.py, on random classes.

    Its loader centres the colours, which our network does. What it logs goes nowhere, for that
    takes its trainer.

    Raises:
        UserError: the config is none that the code has, e.g. of the second phase.
    """
    official.require(config, CHOICES)
    torch, models = official.imported("torch"), official.imported("models")
    model, task = config.model, config.task
    flags = SimpleNamespace(
        patch_size=model.patch_size,
        patch_dim=model.channels,
        levels=model.num_levels,
        iters=model.num_steps,
        conv_image_size=model.image_size // model.downsample,
        n_channels=model.num_colors,
        n_classes=model.num_classes,
        denoise_iter=-1 if model.head_step is None else model.head_step,
        dropout=model.dropout,
        contr_dim=model.embedding_size,
    )
    net = models.Agglomerator(
        flags, consensus_self=model.attend_self, local_consensus_radius=model.radius
    )
    net.log = lambda *_: None
    criterion = models.SupConLoss(temperature=task.temperature)
    labels = torch.randint(model.num_classes, (images // 2,)) if task.labels else None

    def loss(forward: official.Module, x: official.Tensor) -> official.Tensor:
        features, _ = forward(x[:, : model.num_colors])
        return criterion(torch.stack(features.chunk(2), dim=1), labels)

    return official.Network(net, loss)
