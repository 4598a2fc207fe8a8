"""Efficient MORL: the ClevrTex benchmark's copy of the authors' code."""

import math

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/thirdparty/emorl/model.py"
# Not channels_last, where ReLUs in place overwrite what the refinement's gradient needs.
VARIANTS = ("eager", "compile")
FIRST = 0  # the step of the training, on which the number of refinements depends


def build(config: ConfigDict, images: int) -> official.Network:
    """`EfficientMORL` of emorl/model.py, which takes gradients within its forward pass."""
    model = config.model
    net = clevrtex.imported("thirdparty.emorl.model").EfficientMORL(
        K=model.num_slots,
        z_size=model.slot_size,
        input_size=(3, model.image_size, model.image_size),
        batch_size=images,
        stochastic_layers=model.num_layers,
        log_scale=math.log(model.std),
        image_likelihood={"gaussian": "Gaussian", "mixture": "GMM"}[model.likelihood],
        geco_warm_start=config.task.geco.start,
        refinement_iters=model.num_iterations,
        bottom_up_prior=False,
        reverse_prior_plusplus=True,
        use_geco=True,
        training={
            "geco_reconstruction_target": config.task.geco.goal,
            "geco_ema_alpha": config.task.geco.decay,
            "geco_beta_stepsize": config.task.geco.step_size,
            "kl_beta_init": 1,
            "use_geco": True,
            "refinement_curriculum": [(-1, model.num_iterations)],
        },
    )

    def loss(forward: official.Module, x: official.Tensor) -> official.Tensor:
        found = forward(x, FIRST)
        net.update_geco(FIRST, found)
        return found["loss"]

    return official.Network(net, loss, fullgraph=False)
