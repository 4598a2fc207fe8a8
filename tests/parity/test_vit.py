"""The Vision Transformer against tensors of timm's."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from akorn_jax.convert import files, load_official, to_official, vit
from akorn_jax.convert.layout import official_shape
from akorn_jax.errors import UserError
from akorn_jax.layers.attention import attend
from akorn_jax.layers.resize import resize_bicubic
from akorn_jax.layers.vit import ViT
from akorn_jax.models.vit import Model
from tests.parity import tensors

FILES = tensors.files("vit", "v_*.npz")
NETWORKS = [path for path in FILES if "config" in np.load(path)]
RESIZES = [path for path in FILES if any("/pos_embed_" in key for key in np.load(path))]
NAMED = [path for path in FILES if any(key.startswith("names/") for key in np.load(path))]
TOLERANCE = 5e-5


def name(path):
    return path.stem


def make(config, **fields):
    """A model for images that are normalised already."""
    return Model(
        image_size=config["img_size"],
        patch_size=config["patch_size"],
        width=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        num_classes=config["num_classes"],
        mean=(0, 0, 0),
        std=(1, 1, 1),
        rngs=nnx.Rngs(0),
        **fields,
    )


@pytest.mark.parametrize("path", NETWORKS, ids=name)
def test_network(path):
    arrays = tensors.read(path)
    model = tensors.empty(lambda: make(tensors.literal(arrays["config"])))
    official = tensors.below(arrays, "param/")
    load_official(model, official)
    returned = to_official(model)
    assert returned.keys() == official.keys()
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)

    graphdef, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, images):
        model = nnx.merge(graphdef, params, rest)
        trunk = model.vit
        tokens, states = trunk(images)
        found = {"features": tokens, "tokens": trunk.embed(images)}
        before = (found["tokens"], *states[:-1])
        for i, block in enumerate(trunk.blocks):
            q, k, _ = block.attention.split(block.attention_norm(before[i]))
            eye = jnp.broadcast_to(jnp.eye(k.shape[2]), (*k.shape[:2], *[k.shape[2]] * 2))
            found[f"attention{i}"] = attend(q, k, eye)
            found[f"block{i}"] = states[i]
        position = trunk.positions(trunk.grid)[1]
        found["patches"] = found["tokens"][:, 1:] - position
        output = model(images, trajectory=True)
        found["forward"] = output.embedding if output.logits is None else output.logits
        return jnp.sum(tokens * arrays["in/loss_w"]), (found, output)

    images = tensors.last(arrays["in/image"])
    run = tensors.on_host(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (_, (found, output)), (grads, grad_images) = run(params, images)
    expected = tensors.below(arrays, "out/")
    assert expected.keys() <= found.keys()
    for key, array in expected.items():
        assert tensors.relative(found[key], array) < TOLERANCE, key
    patches = expected["features"][:, 1:].reshape(output.features.shape)  # row by row
    assert tensors.relative(output.features, patches) < TOLERANCE
    last = expected[f"block{len(output.trajectory['tokens']) - 1}"][:, 1:]
    states = output.trajectory["tokens"][-1][0]
    assert tensors.relative(states, last.reshape(states.shape)) < TOLERANCE

    ours = to_official(nnx.merge(graphdef, grads, rest))
    without = {str(key) for key in arrays["no_grad"]}
    keys = {key.removeprefix("grad/") for key in arrays if key.startswith("grad/")}
    assert keys | without == official.keys()
    for key in keys:
        if key.endswith("qkv.bias"):  # that of the keys is zero but for rounding
            width = len(ours[key]) // 3
            ours[key] = np.delete(ours[key], np.s_[width : 2 * width])
            arrays[f"grad/{key}"] = np.delete(arrays[f"grad/{key}"], np.s_[width : 2 * width])
        tensors.assert_sampled(ours[key], arrays, f"grad/{key}", 2e-4)
    for key in without:
        np.testing.assert_array_equal(ours[key], 0)
    for key, norm in tensors.below(arrays, "gradnorm/").items():
        np.testing.assert_allclose(np.linalg.norm(ours[key]), norm, rtol=2e-4)
    grad_images = np.moveaxis(grad_images, -1, 1)
    assert tensors.relative(grad_images, arrays["grad_in/image"]) < 2e-4


@pytest.mark.parametrize("path", RESIZES, ids=name)
def test_resizing(path):
    arrays = tensors.read(path)
    official = arrays["in/pos_embed"][0]
    side = round((len(official) - 1) ** 0.5)
    trunk = tensors.empty(
        lambda: ViT(
            image_size=side, patch_size=1, width=official.shape[1], depth=0, rngs=nnx.Rngs(0)
        )
    )
    trunk.position[...] = jnp.asarray(official)
    sizes = [key for key in arrays if key.startswith("out/pos_embed_")]
    assert sizes
    for key in sizes:
        grid = tuple(map(int, re.fullmatch(r"out/pos_embed_(\d+)x(\d+)", key).groups()))
        first, table = trunk.positions(grid)
        ours = np.concatenate([first[None], table])[None]
        np.testing.assert_allclose(ours, arrays[key], atol=1e-5)
    video = arrays["in/video"]
    size = arrays["out/resized"].shape[2:]
    model = tensors.empty(lambda: Model(image_size=size, patch_size=1, depth=0, rngs=nnx.Rngs(0)))
    normalised = model.normalise(video / np.float32(255))
    np.testing.assert_allclose(normalised, tensors.last(arrays["out/normalised"]), atol=1e-5)
    resized = resize_bicubic(normalised, size)
    np.testing.assert_allclose(resized, tensors.last(arrays["out/resized"]), atol=2e-5)
    rounded = np.clip(np.round(resize_bicubic(video.astype(np.float32), size)), 0, 255)
    off = np.abs(rounded - tensors.last(arrays["out/resized_video_uint8"]).astype(float))
    assert off.max() <= 1  # halves
    assert (off > 0).mean() < 1e-3


@pytest.mark.parametrize(
    ("path", "key"),
    [(path, key) for path in NAMED for key in np.load(path) if key.startswith("names/")],
)
def test_names_of_full_size(path, key):
    """The names and shapes of the published files, e.g. 150 of DINO's."""
    lines = [str(line).split(" ", 1) for line in tensors.read(path)[key]]
    official = {name: tuple(map(int, re.findall(r"\d+", shape))) for name, shape in lines}
    assert len(official) == 150
    width, _, p, _ = official["patch_embed.proj.weight"]
    side = round((official["pos_embed"][1] - 1) ** 0.5)
    model = nnx.eval_shape(
        lambda: Model(
            image_size=side * p, patch_size=p, width=width, heads=width // 64, rngs=nnx.Rngs(0)
        )
    )
    ours = {entry.name: official_shape(entry) for entry in vit.entries(model)}
    assert ours == official


TINY = {"image_size": 8, "patch_size": 4, "width": 8, "depth": 2, "heads": 2}
DINOV2 = {**TINY, "layer_scale": True, "num_registers": 3}
# Names as in published files, of the last block of two where there are blocks.
DIALECTS = {
    "timm": (
        {**TINY, "num_classes": 5},
        ["cls_token", "pos_embed", "patch_embed.proj.bias", "blocks.1.norm1.weight",
         "blocks.1.attn.qkv.weight", "blocks.1.attn.proj.bias", "blocks.1.norm2.bias",
         "blocks.1.mlp.fc1.weight", "blocks.1.mlp.fc2.weight", "norm.weight", "head.weight"],
    ),
    "timm_registers": (
        {**DINOV2, "class_position": False},
        ["cls_token", "pos_embed", "reg_token", "blocks.1.ls1.gamma", "blocks.1.ls2.gamma"],
    ),
    "dinov2": (
        {**DINOV2, "mlp": "swiglu"},
        ["cls_token", "pos_embed", "register_tokens", "mask_token", "blocks.1.ls1.gamma",
         "blocks.1.mlp.w12.weight", "blocks.1.mlp.w3.bias"],
    ),
    "hf_vit": (
        TINY,
        ["embeddings.cls_token", "embeddings.position_embeddings",
         "embeddings.patch_embeddings.projection.weight", "encoder.layer.1.layernorm_before.bias",
         "encoder.layer.1.attention.attention.query.weight",
         "encoder.layer.1.attention.attention.value.bias",
         "encoder.layer.1.attention.output.dense.weight", "encoder.layer.1.layernorm_after.bias",
         "encoder.layer.1.intermediate.dense.weight", "encoder.layer.1.output.dense.bias",
         "layernorm.weight"],
    ),
    "hf_vit_head": (
        {**TINY, "num_classes": 5},
        ["vit.embeddings.cls_token", "vit.layernorm.bias", "classifier.weight"],
    ),
    "hf_dinov2": (
        DINOV2,
        ["embeddings.cls_token", "embeddings.mask_token", "embeddings.position_embeddings",
         "embeddings.register_tokens", "encoder.layer.1.norm1.weight",
         "encoder.layer.1.attention.attention.key.weight", "encoder.layer.1.layer_scale1.lambda1",
         "encoder.layer.1.norm2.bias", "encoder.layer.1.mlp.fc1.weight",
         "encoder.layer.1.layer_scale2.lambda1", "layernorm.bias"],
    ),
}  # fmt: skip


def randomised(fields, seed):
    """A model of which every parameter is random."""
    model = tensors.empty(lambda: Model(**fields, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(seed)
    for _, variable in nnx.iter_graph(model):
        if isinstance(variable, nnx.Param):
            variable[...] = jnp.asarray(rng.normal(size=variable.shape), variable.dtype)
    return model


@pytest.mark.parametrize("case", DIALECTS)
def test_dialects(case, tmp_path):
    """A file in each naming is recognised and fills the model with what it was made of."""
    fields, names = DIALECTS[case]
    dialect = case.removesuffix("_head").removesuffix("_registers")
    model = randomised(fields, seed=1)
    official = to_official(model, dialect)
    assert set(names) <= official.keys()
    files.write(tmp_path / "weights.safetensors", official, official, 0)
    _, arrays = files.read(tmp_path / "weights.safetensors")
    loaded = randomised(fields, seed=2)
    load_official(loaded, arrays)
    for ours, theirs in zip(
        jax.tree.leaves(nnx.state(loaded)), jax.tree.leaves(nnx.state(model)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    returned = to_official(loaded, dialect)
    for key, array in official.items():
        np.testing.assert_array_equal(returned[key], array)


def test_queries_keys_and_values_apart_are_those_in_one():
    model = randomised(TINY, seed=1)
    one, apart = to_official(model), to_official(model, "hf_vit")
    parts = [f"encoder.layer.0.attention.attention.{n}.weight" for n in ("query", "key", "value")]
    together = np.concatenate([apart[part] for part in parts])
    np.testing.assert_array_equal(together, one["blocks.0.attn.qkv.weight"])


def test_bad_weights_are_refused_in_one_line():
    model = randomised(TINY, seed=1)
    official = to_official(model)
    other = to_official(randomised({**TINY, "image_size": 16}, seed=1))
    with pytest.raises(UserError, match=r"misshapen pos_embed \(1, 17, 8\), expected \(1, 5, 8\)"):
        load_official(model, other)
    official["blocks.2.norm1.bias"] = official.pop("blocks.1.norm1.bias")
    with pytest.raises(UserError, match=r"missing blocks\.1\.norm1\.bias; unknown blocks\.2\."):
        load_official(model, official)
    for fields, dialect in ((DINOV2, "hf_vit"), ({**DINOV2, "num_classes": 2}, "dinov2")):
        with pytest.raises(UserError, match="dialect="):
            to_official(randomised(fields, seed=1), dialect)


def test_mask_token_is_not_kept():
    official = to_official(randomised(DINOV2, seed=1), "dinov2")
    official["mask_token"] = np.ones_like(official["mask_token"])
    model = randomised(DINOV2, seed=2)
    before = nnx.graphdef(model)
    load_official(model, official)
    assert nnx.graphdef(model) == before
    np.testing.assert_array_equal(to_official(model, "dinov2")["mask_token"], 0)


# Parameters of published models without a head; DINOv2's count a mask token of 384 numbers more.
COUNTS = {
    "dino_vits16": ({"width": 384, "heads": 6}, 21_665_664),
    "dino_vits8": ({"width": 384, "heads": 6, "patch_size": 8}, 21_670_272),
    "dino_vitb16": ({"width": 768, "heads": 12}, 85_798_656),
    "dino_vitb8": ({"width": 768, "heads": 12, "patch_size": 8}, 85_807_872),
    "dinov2_vits14": (
        {"width": 384, "heads": 6, "patch_size": 14, "image_size": 518, "layer_scale": True},
        22_056_192,
    ),
}


@pytest.mark.parametrize("case", COUNTS)
def test_parameter_counts(case):
    fields, count = COUNTS[case]
    model = nnx.eval_shape(lambda: Model(**fields, rngs=nnx.Rngs(0)))
    assert sum(p.size for p in jax.tree.leaves(nnx.state(model, nnx.Param))) == count
