"""The demo: a small AKOrN finds the objects of synthetic scenes on two CPU cores.

    python launch.py --config=configs/demo.py:textured --workdir=runs/demo  # which is `make demo`
    python launch.py --config=configs/demo.py          # Tetrominoes, 32x32
    python launch.py --config=configs/demo.py:conv     # convolutional AKOrN, kernel 5
    python launch.py --config=configs/demo.py:itrsa    # the baselines, as small
    python launch.py --config=configs/demo.py:itrconv
    python launch.py --config=configs/demo.py:vit

With :textured, which goes with all others, the scenes are textured sprites on a textured ground, at
64x64, of which neither colour nor place nor connectedness says what is an object; evaluation takes
up-tiling 2. Without it, they are Tetrominoes, which colours nearly solve.

Ablations of the oscillators, which may be combined, the last two also with `:conv`:

    :no_coupling    an MLP at each token, with as many weights, in place of the attention
    :no_projection  the force as it is, not its part that is tangent to the sphere
    :clamp          components clamped to [-1, 1] in place of the sphere, whose tangents go with it

Departures from the paper's recipe (configs/tetrominoes_akorn.py), which wants a GPU:

    | field         | paper   | here                                 |
    | channels, T   | 128, 8  | 32, 4                                |
    | heads         | 8       | 2                                    |
    | data          | 60,000  | 20,000 synthetic scenes              |
    | batch         | 256     | 64                                   |
    | steps         | 11,750  | 2,500; textured 1,500                |
    | learning rate | 1e-3    | 1e-2, 20 steps warm-up, cosine decay |
    | Adam's b2     | 0.999   | 0.99                                 |

Measured: docs/results.md, and the ablations in docs/results/ablations.md, where T is one more.
"""

from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from configs import fields, variants
from configs.families import akorn
from configs.protocols import protocol


@variants.discovery
def get_config(variant: str = "") -> ConfigDict:
    known = ("textured", "conv", "itrsa", "itrconv", "vit", "no_coupling", "no_projection", "clamp")
    chosen = variants.choose(variant, known)
    networks = chosen - {"textured"}
    alone = networks & {"itrsa", "itrconv", "vit"}
    if (alone and len(networks) > 1) or {"conv", "no_coupling"} <= networks:
        raise UserError(f"variants {', '.join(sorted(networks))} exclude each other; choose one.")
    config = akorn.contrastive_discovery("tetrominoes:akorn", size=32, procedural=True)
    config.num_steps = 2_500
    config.batch_size = 64
    config.data.train = (384, 20_384)
    config.data.validation = (64, 384)
    config.data.max_records = 20_384
    size = {"channels": 32, "num_steps": 4, "patch_size": 4, "image_size": 32}
    if "textured" in chosen:
        config.num_steps = 1_500
        config.data = protocol("textured_64:arena", procedural=False)
        config.published = ()
        config.task.augmentation.update({"size": 64, **akorn.TEXTURED_VIEWS})
        config.eval.up_tiling = 2
        size |= {"patch_size": 8, "image_size": 64}
    if "itrsa" in chosen:
        config.model = fields.model("itrsa", heads=2, **size)
    elif "vit" in chosen:  # a block for each of the others' steps
        config.model = fields.model("itrsa", heads=2, **size | {"num_layers": 4, "num_steps": 1})
    elif "itrconv" in chosen:
        config.model = fields.model("itrconv", kernel_size=5, **size)
    else:
        config.model = fields.model("akorn", heads=2, autorescale=False, **size)
    if "conv" in chosen:
        config.model.connectivity = "conv"
        config.model.kernel_size = 5
    if "no_coupling" in chosen:
        config.model.connectivity = "mlp"
    if "no_projection" in chosen or "clamp" in chosen:
        config.model.project = False
    if "clamp" in chosen:
        config.model.sphere = False
    config.optimizer.learning_rate = 1e-2
    config.optimizer.b2 = 0.99
    config.optimizer.warmup_steps = 20
    config.optimizer.schedule = "cosine"
    config.checkpoint_every = 500
    return config
