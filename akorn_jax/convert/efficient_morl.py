"""Official names of Efficient MORL in karazijal/clevrtex."""

from collections.abc import Iterator

import numpy as np
from flax import nnx

from akorn_jax.convert.layout import (
    Entry,
    Part,
    affine,
    constant,
    convolution,
    identity,
    linear,
    norm,
    reshaped,
)
from akorn_jax.layers.gru import GRU
from akorn_jax.models import efficient_morl

Entries = Iterator[Entry]


def entries(model: efficient_morl.Model) -> list[Entry]:
    """Every official array of a model."""
    return list(_entries(model))


def _entries(model: efficient_morl.Model) -> Entries:
    # The state of GECO at the end of training: here a task has it.
    yield constant("geco_C_ema", np.float32(0), fixed=False)
    yield constant("geco_beta", np.float32(0.55), fixed=False)
    name = "hvae_networks"
    Z = model.slot_size
    yield Entry(f"{name}.init_posterior", model.posterior, reshaped((2, Z), (1, 2 * Z)))
    yield from _encoder(name, model.encoder)
    yield from _layer(name, model.layer)
    decoder = model.decoder
    for i, layer in enumerate([*decoder.layers, decoder.out]):
        yield from affine(f"{name}.image_decoder.decode.{2 * i}", layer, convolution())
    yield from _position(f"{name}.image_decoder", decoder.position)
    yield from affine(f"{name}.indep_prior.z_linear.0", model.prior.hidden, linear())
    yield from affine(f"{name}.indep_prior.z_mu", model.prior.loc, linear())
    yield from affine(f"{name}.indep_prior.z_softplus", model.prior.raw, linear())
    yield from _refinement("refinenet", model.refinement)


def _encoder(name: str, encoder: efficient_morl.Encoder) -> Entries:
    for i, layer in enumerate(encoder.convolutions):
        yield from affine(f"{name}.encoder_pt_1.{2 * i}", layer, convolution())
    yield from _position(name, encoder.position)
    yield from norm(f"{name}.encoder_pt_2.0", encoder.norm)
    yield from affine(f"{name}.encoder_pt_2.1", encoder.hidden, linear())
    yield from affine(f"{name}.encoder_pt_2.3", encoder.out, linear())


def _layer(name: str, layer: efficient_morl.HierarchicalEncoder) -> Entries:
    for which in "qkv":
        kernel = getattr(layer, f"to_{which}").kernel
        yield Entry(f"{name}.to_{which}.weight", kernel, linear())
    yield from norm(f"{name}.norm_slots", layer.norm_slots)
    for theirs, residual in (("mu", layer.residual_loc), ("softplus", layer.residual_raw)):
        yield from norm(f"{name}.norm_{theirs}_pre_ff", residual.norm)
        yield from affine(f"{name}.mlp_{theirs}.0", residual.hidden, linear())
        yield from affine(f"{name}.mlp_{theirs}.2", residual.out, linear())
    yield from _dual_gru(f"{name}.gru.cell", layer.gru)


def _dual_gru(name: str, gru: efficient_morl.DualGRU) -> Entries:
    for i in range(2):
        yield Entry(f"{name}.weight_ih_{i + 1}", Part(gru.input_gates, i), linear())
        yield Entry(f"{name}.weight_hh_{i + 1}", Part(gru.state_gates, i), linear())
        yield Entry(f"{name}.weight_in_{i + 1}", Part(gru.input_new, i), linear())
        yield Entry(f"{name}.weight_hn_{i + 1}", Part(gru.state_new, i), linear())
    for row, (gates, new) in enumerate((("ih", "in"), ("hh", "hn"))):
        # Theirs has those of both cells one behind the other.
        for bias, variable in ((gates, gru.gates_bias), (new, gru.new_bias)):
            ours = variable.shape[1:]
            layout = reshaped(ours, (ours[0] * ours[1],))
            yield Entry(f"{name}.bias_{bias}", Part(variable, row), layout)


def _refinement(name: str, refinement: efficient_morl.RefinementNetwork) -> Entries:
    yield from affine(f"{name}.encoding.0", refinement.hidden, linear())
    yield from affine(f"{name}.encoding.2", refinement.encode, linear())
    yield from _gru(f"{name}.recurrence", refinement.gru)
    yield from affine(f"{name}.loc", refinement.loc, linear())
    yield from affine(f"{name}.softplus", refinement.raw, linear())


def _gru(name: str, gru: GRU) -> Entries:
    z, r, n = np.split(np.arange(gru.bias.shape[1]), 3)
    order = np.concatenate([r, z, n])  # to take z, r, n from r, z, n
    yield Entry(f"{name}.weight_ih_l0", gru.input_kernel, linear().then(1, order))
    yield Entry(f"{name}.weight_hh_l0", gru.state_kernel, linear().then(1, order))
    yield Entry(f"{name}.bias_ih_l0", Part(gru.bias, 0), identity().then(0, order))
    yield Entry(f"{name}.bias_hh_l0", Part(gru.bias, 1), identity().then(0, order))


def _position(name: str, module: nnx.Module) -> Entries:
    # Ours is (y, x, 1 - y, 1 - x), theirs (1 - y, y, x, 1 - x).
    order = np.array([1, 2, 0, 3])
    yield from affine(f"{name}.pos_embed_projection", module.project, linear().then(0, order))
