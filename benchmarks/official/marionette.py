"""MarioNette: the ClevrTex benchmark's, which renders every sprite's mask in training as well."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = "marionet/models.py"
VARIANTS = official.VARIANTS


def build(config: ConfigDict, images: int) -> official.Network:
    """`Model` and `Dictionary` of marionet/models.py under the loss of marionet/interfaces.py.

    Its training script runs the network a second time, for a score; that is left out.
    """
    del images  # it takes batches of any size
    torch, models = official.imported("torch"), official.imported("marionet.models")
    model, weights = config.model, config.task.weights
    sprite_size = 2 * model.image_size // model.grid_size
    sprites = models.Dictionary(model.num_sprites, [sprite_size] * 2, 4, model.code_size)
    net = models.Model(
        sprites,
        model.grid_size,
        model.num_layers,
        canvas_size=model.image_size,
        dim_z=model.code_size,
        dim_bg=model.background_code_size,
        straight_through_probs=model.straight_through,
    )
    net.backgrounds = models.Dictionary(
        model.num_backgrounds, [model.image_size] * 2, 3, model.background_code_size
    )
    beta = torch.distributions.Beta(2.0, 2.0)

    def density(p: official.Tensor) -> official.Tensor:
        return beta.log_prob(p.clamp(1e-5, 1 - 1e-5)).exp().mean()

    def loss(forward: official.Module, x: official.Tensor) -> official.Tensor:
        found = forward(x, net.backgrounds())
        presence = found["probs"]
        return (
            weights.mse * torch.nn.functional.mse_loss(found["reconstruction"], x)
            + weights.beta * (density(found["weights"]) + density(presence)) / 2
            + weights.presence * presence.abs().mean()
        )

    return official.Network(net, loss, fullgraph=False)
