"""torchvision's names of the ResNet-18 classifier."""

from akorn_jax.convert.layout import Entry, affine, convolution, linear
from akorn_jax.convert.parts import basic_block, batch_norm
from akorn_jax.models.resnet_classifier import Model


def entries(model: Model) -> list[Entry]:
    """Every array of torchvision's `resnet18`, also where its stem is that of small images."""
    encoder = model.encoder
    found = [
        Entry("conv1.weight", encoder.stem.kernel, convolution()),
        *batch_norm("bn1", encoder.stem_norm, counter=True),
        *affine("fc", model.classifier, linear()),
    ]
    for i, stage in enumerate(encoder.stages, start=1):
        for j, block in enumerate(stage):
            found += basic_block(f"layer{i}.{j}", block, counter=True)
    return found
