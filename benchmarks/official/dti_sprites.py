"""DTI-Sprites: the ClevrTex benchmark's copy of the authors' code, when all of it acts."""

from ml_collections import ConfigDict

from benchmarks import official
from benchmarks.official import clevrtex

REPOSITORY = clevrtex.REPOSITORY
MARKER = f"{clevrtex.MODELS}/thirdparty/dti_sprites/model.py"
VARIANTS = official.VARIANTS


def build(config: ConfigDict, images: int) -> official.Network:
    """`DTISprites` of dti_sprites/model.py, with sprites learned and deformed from the start."""
    del images  # it takes batches of any size
    model = config.model
    size = (model.image_size, model.image_size)
    _provide_moved_functions()
    net = clevrtex.imported("thirdparty.dti_sprites.model").DTISprites(
        size,
        3,
        n_sprites=model.num_sprites,
        n_objects=model.num_layers,
        n_backgrounds=1,
        mean_bg=official.imported("torch").full((1, 3, *size), 0.5),
        bkg_init="mean",
        mask_init="gaussian",
        gaussian_weights_std=model.mask_std,
        sprite_size=[model.sprite_size] * 2,
        encoder_name=model.encoder,
        with_pool=list(model.pool_size),
        transformation_sequence="_".join(model.sprite_transformations),
        transformation_sequence_layer="_".join(model.layer_transformations),
        transformation_sequence_bkg="_".join(model.background_transformations),
        curriculum_learning=False,
        curriculum_learning_layer=False,
        curriculum_learning_bkg=False,
        inject_noise=model.mask_noise,
        pred_occlusion=model.occlusion == "predicted",
        estimate_minimum=True,
        greedy_algo_iter=model.num_sweeps,
        add_empty_sprite=model.empty_sprite,
        lambda_empty_sprite=model.empty_penalty,
    )
    return official.Network(net, clevrtex.loss, fullgraph=False)


def _provide_moved_functions() -> None:
    """Puts what the code imports to where it was in the kornia and SciPy of its time."""
    for old, new, name in (
        ("kornia", "kornia.geometry.transform", "homography_warp"),
        ("scipy.signal", "scipy.signal.windows", "gaussian"),
    ):
        module = official.imported(old)
        if not hasattr(module, name):
            setattr(module, name, getattr(official.imported(new), name))
