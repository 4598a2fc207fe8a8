"""Official names of Vision Transformers, in four dialects.

- "timm": timm's, which are also those of facebookresearch/dino;
- "dinov2": facebookresearch/dinov2;
- "hf_vit": `ViTModel` of Hugging Face's transformers, e.g. facebook/dino-vits8;
- "hf_dinov2": `Dinov2Model` and `Dinov2WithRegistersModel`.

DINOv2's files also hold the token that stood for masked patches in its pre-training. It plays no
part here and is not kept; `to_official` gives zeros, its initial value.
"""

from collections.abc import Iterable, Iterator

import jax.numpy as jnp
from flax import nnx

from akorn_jax.convert.layout import (
    Entry,
    Part,
    below,
    identity,
    linear,
    patches,
    reshaped,
)
from akorn_jax.errors import UserError
from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.vit import SelfAttention, ViT
from akorn_jax.models import vit

Entries = Iterator[Entry]

# The word of each dialect for the register tokens.
REGISTERS = {
    "timm": "reg_token",
    "dinov2": "register_tokens",
    "hf_dinov2": "embeddings.register_tokens",
}


def dialect(names: Iterable[str]) -> str:
    """The dialect of a state dict's names."""
    names = set(names)
    if any(".layernorm_before." in name for name in names):
        return "hf_vit"
    if any(name.startswith("embeddings.") for name in names):
        return "hf_dinov2"
    swiglu = any(".mlp.w12." in name for name in names)
    return "dinov2" if swiglu or names & {"mask_token", "register_tokens"} else "timm"


def entries(model: vit.Model | ViT, dialect: str = "timm") -> list[Entry]:
    """Every official array of a model, or of a `ViT` layer, which has no head.

    Raises:
        UserError: there is no such dialect, or the dialect has no such model.
    """
    writers = {"timm": _timm, "dinov2": _dinov2, "hf_vit": _hf_vit, "hf_dinov2": _hf_dinov2}
    if dialect not in writers:
        raise UserError(f"dialect={dialect!r} is unknown; it is one of {', '.join(writers)}.")
    trunk, head = (model, None) if isinstance(model, ViT) else (model.vit, model.head)
    names = list(writers[dialect](trunk))
    if head is None:
        return names
    if dialect == "timm":
        return [*names, *_affine("head", head)]
    if dialect == "hf_vit":
        return [*below("vit.", names), *_affine("classifier", head)]
    raise UserError(f"dialect={dialect!r} has no head on the class token; use num_classes=0.")


def _timm(model: ViT) -> Entries:
    yield from _tokens(model, "cls_token", "pos_embed", REGISTERS["timm"])
    yield from _patches("patch_embed.proj", model)
    yield from _blocks(model, "fc1", "fc2")
    yield from _norm("norm", model.norm)


def _dinov2(model: ViT) -> Entries:
    yield from _tokens(model, "cls_token", "pos_embed", REGISTERS["dinov2"])
    yield _mask_token("mask_token", model)
    yield from _patches("patch_embed.proj", model)
    swiglu = model.blocks[0].mlp.kind == "swiglu"
    yield from _blocks(model, *(("w12", "w3") if swiglu else ("fc1", "fc2")))
    yield from _norm("norm", model.norm)


def _hf_vit(model: ViT) -> Entries:
    if model.registers is not None or model.blocks[0].attention_scale is not None:
        raise UserError("dialect='hf_vit' has neither registers nor layer_scale; use 'hf_dinov2'.")
    yield from _tokens(model, "embeddings.cls_token", "embeddings.position_embeddings")
    yield from _patches("embeddings.patch_embeddings.projection", model)
    for i, block in enumerate(model.blocks):
        name = f"encoder.layer.{i}"
        yield from _norm(f"{name}.layernorm_before", block.attention_norm)
        yield from _hf_attention(f"{name}.attention", block.attention)
        yield from _norm(f"{name}.layernorm_after", block.mlp_norm)
        yield from _affine(f"{name}.intermediate.dense", block.mlp.hidden)
        yield from _affine(f"{name}.output.dense", block.mlp.out)
    yield from _norm("layernorm", model.norm)


def _hf_dinov2(model: ViT) -> Entries:
    yield from _tokens(
        model,
        "embeddings.cls_token",
        "embeddings.position_embeddings",
        REGISTERS["hf_dinov2"],
    )
    yield _mask_token("embeddings.mask_token", model)
    yield from _patches("embeddings.patch_embeddings.projection", model)
    for i, block in enumerate(model.blocks):
        name = f"encoder.layer.{i}"
        swiglu = block.mlp.kind == "swiglu"
        hidden, out = ("weights_in", "weights_out") if swiglu else ("fc1", "fc2")
        yield from _norm(f"{name}.norm1", block.attention_norm)
        yield from _hf_attention(f"{name}.attention", block.attention)
        yield from _scale(f"{name}.layer_scale1.lambda1", block.attention_scale)
        yield from _norm(f"{name}.norm2", block.mlp_norm)
        yield from _affine(f"{name}.mlp.{hidden}", block.mlp.hidden)
        yield from _affine(f"{name}.mlp.{out}", block.mlp.out)
        yield from _scale(f"{name}.layer_scale2.lambda1", block.mlp_scale)
    yield from _norm("layernorm", model.norm)


def _blocks(model: ViT, hidden: str, out: str) -> Entries:
    """Blocks as timm and Meta name them, but for the two layers of the MLP."""
    for i, block in enumerate(model.blocks):
        name = f"blocks.{i}"
        yield from _norm(f"{name}.norm1", block.attention_norm)
        yield from _affine(f"{name}.attn.qkv", block.attention.qkv)
        yield from _affine(f"{name}.attn.proj", block.attention.out)
        yield from _scale(f"{name}.ls1.gamma", block.attention_scale)
        yield from _norm(f"{name}.norm2", block.mlp_norm)
        yield from _affine(f"{name}.mlp.{hidden}", block.mlp.hidden)
        yield from _affine(f"{name}.mlp.{out}", block.mlp.out)
        yield from _scale(f"{name}.ls2.gamma", block.mlp_scale)


def _tokens(model: ViT, token: str, position: str, registers: str = "") -> Entries:
    yield _batched(token, model.class_token, leading=2)
    yield _batched(position, model.position)
    if model.registers is not None:
        yield _batched(registers, model.registers)


def _batched(name: str, variable: nnx.Variable, leading: int = 1) -> Entry:
    """An array that officially has leading axes of one entry."""
    ours = variable.shape
    return Entry(name, variable, reshaped(ours, (*(1,) * leading, *ours)))


def _mask_token(name: str, model: ViT) -> Entry:
    return Entry(name, Buffer(jnp.zeros((1, *model.class_token.shape))), identity())


def _patches(name: str, model: ViT) -> Entries:
    yield Entry(f"{name}.weight", model.project.kernel, patches(model.patch_size))
    yield Entry(f"{name}.bias", model.project.bias, identity())


def _hf_attention(name: str, module: SelfAttention) -> Entries:
    """Queries, keys and values apart."""
    width = module.out.kernel.shape[0]
    for i, which in enumerate(("query", "key", "value")):
        columns = (..., slice(i * width, (i + 1) * width))
        yield Entry(f"{name}.attention.{which}.weight", Part(module.qkv.kernel, columns), linear())
        yield Entry(f"{name}.attention.{which}.bias", Part(module.qkv.bias, columns), identity())
    yield from _affine(f"{name}.output.dense", module.out)


def _affine(name: str, module: nnx.Module) -> Entries:
    yield Entry(f"{name}.weight", module.kernel, linear())
    yield Entry(f"{name}.bias", module.bias, identity())


def _norm(name: str, module: nnx.LayerNorm) -> Entries:
    yield Entry(f"{name}.weight", module.scale, identity())
    yield Entry(f"{name}.bias", module.bias, identity())


def _scale(name: str, scale: nnx.Param | None) -> Entries:
    if scale is not None:
        yield Entry(name, scale, identity())
