"""SLATE: the authors' own repository, whose slot attention has the gradient of all iterations."""

from types import SimpleNamespace

from ml_collections import ConfigDict

from benchmarks import official

REPOSITORY = "github.com/singhgautam/slate"
MARKER = "dvae.py"
VARIANTS = official.VARIANTS

TEMPERATURE = 1.0  # of the relaxed tokens


def build(config: ConfigDict, images: int) -> official.Network:
    """`SLATE` of slate.py."""
    del images  # it takes batches of any size
    model = config.model
    arguments = SimpleNamespace(
        image_size=model.image_size,
        img_channels=3,
        num_slots=model.num_slots,
        vocab_size=model.vocab_size,
        d_model=model.channels,
        slot_size=model.slot_size,
        mlp_hidden_size=model.hidden_size,
        pos_channels=4,
        num_iterations=model.num_iterations,
        num_slot_heads=model.num_slot_heads,
        num_dec_blocks=model.num_blocks,
        num_heads=model.num_heads,
        dropout=model.dropout,
    )
    net = official.imported("slate").SLATE(arguments)

    def loss(forward: official.Module, x: official.Tensor) -> official.Tensor:
        _, cross_entropy, squares, _ = forward(x, TEMPERATURE, False)
        return squares + cross_entropy

    return official.Network(net, loss, fullgraph=False)
