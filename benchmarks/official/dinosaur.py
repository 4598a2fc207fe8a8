"""DINOSAUR: the authors' framework, whose modules are put together as its configuration says."""

import functools

from ml_collections import ConfigDict

from benchmarks import official

REPOSITORY = "github.com/amazon-science/object-centric-learning-framework"
MARKER = "ocl/perceptual_grouping.py"
VARIANTS = official.VARIANTS

ENCODERS = {384: "vit_small_patch8_224_dino", 768: "vit_base_patch8_224_dino"}  # by their width
CHOICES = {
    "task.inputs": ("image",),
    "model.encoder.name": ("vit",),
    "model.encoder.image_size": (224,),
    "model.encoder.patch_size": (8,),
    "model.encoder.width": ENCODERS,
    "model.encoder_dtype": ("float32",),
    "model.standardize": (False,),
    "model.position": (False,),
    "model.aggregation": ("mean",),
    "model.gradient": ("unrolled",),
}


def build(config: ConfigDict, images: int) -> official.Network:
    """What configs/experiment/projects/bridging/dinosaur/movi_c_feat_rec.yaml names.

    The frozen ViT runs in the step, as in ours, and its features are those after the norm. The
    loader normalises the colours, which our network does. Masks at the images' size, which are for
    pictures alone, are left out.

    Raises:
        UserError: the config is none that the code has, e.g. of another encoder.
    """
    official.require(config, CHOICES)
    model = config.model
    official.imported("ocl.feature_extractors.timm")  # which needs more than the rest
    networks = official.imported("ocl.neural_networks")
    wrappers = official.imported("ocl.neural_networks.wrappers")
    positions = official.imported("ocl.neural_networks.positional_embedding")
    mlp = functools.partial(networks.build_two_layer_mlp, initial_layer_norm=True)
    routed = official.imported("routed").ocl
    net = official.imported("ocl.utils.routing").Combined(
        feature_extractor=routed.feature_extractors.TimmFeatureExtractor(
            ENCODERS[model.encoder.width], freeze=True, video_path="image"
        ),
        conditioning=routed.conditioning.RandomConditioning(
            model.slot_size, model.num_slots, batch_size_path="batch_size"
        ),
        perceptual_grouping=routed.perceptual_grouping.SlotAttentionGrouping(
            model.slot_size,
            model.slot_size,
            iters=model.num_iterations,
            ff_mlp=mlp(model.slot_size, model.slot_size, model.hidden_size, residual=True),
            positional_embedding=wrappers.Sequential(
                positions.DummyPositionEmbed(),
                mlp(model.feature_size, model.slot_size, model.feature_size),
            ),
            feature_path="feature_extractor",
            conditioning_path="conditioning",
        ),
        object_decoder=routed.decoding.PatchDecoder(
            model.slot_size,
            model.feature_size,
            num_patches=model.grid[0] * model.grid[1],
            decoder=functools.partial(
                networks.build_mlp, features=[model.decoder_size] * model.decoder_layers
            ),
            object_features_path="perceptual_grouping.objects",
        ),
    )
    distance = official.imported("torch").nn.functional.mse_loss

    def loss(forward: official.Module, x: official.Tensor) -> official.Tensor:
        found = forward({"image": x, "batch_size": images})
        return distance(found["object_decoder"].reconstruction, found["feature_extractor"].features)

    return official.Network(net, loss)
