"""Parts of an attentive network's step, forward and backward, beside PyTorch's.

    python -m benchmarks.parts --recipe=configs/tetrominoes_itrsa.py --images=128
    taskset -c 1 python -m benchmarks.parts --cpu_time    # one core, whatever else runs on it

Needs PyTorch, no clone: theirs is what the official code calls for the part (1x1 convolutions of
`[B, C, h, w]`, `scaled_dot_product_attention`), eagerly and with torch.compile. The sizes are the
recipe's. They take turns, round after round; times are medians, the ratio is to the faster of
PyTorch's two, the median and the range of the rounds' ratios.
"""

import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from akorn_jax.layers.attention import attend
from akorn_jax.layers.iterated import MLP, layer_norm
from akorn_jax.layers.linear import linear
from akorn_jax.layers.patch import token_grid
from benchmarks import command, machine, step

Tensor = Any  # torch.Tensor; PyTorch is imported where it is needed


class Part(NamedTuple):
    """What is computed of x `[B, h, w, channels]`.

    Attributes:
        ours: a module or a function of x.
        theirs: of x `[B, channels, h, w]` and the arrays of `parameters`.
        channels: of x.
        parameters: shapes.
    """

    ours: Callable[[jax.Array], jax.Array]
    theirs: Callable[..., Tensor]
    channels: int
    parameters: Sequence[tuple[int, ...]] = ()


def main(arguments: list[str] | None = None) -> None:
    """Measures the parts and prints a table."""
    parser = step.parser(__doc__)
    parser.set_defaults(recipe="configs/tetrominoes_itrsa.py")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cpu_time", action="store_true", help=step.CPU_TIME)
    options, overrides = parser.parse_known_args(arguments)
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise UserError("benchmarks.parts: needs PyTorch; pip install torch.") from error
    model = step.recipe(options.recipe, options.images, tuple(overrides)).model
    clock = time.process_time if options.cpu_time else time.perf_counter
    results = {}
    print("part | ours ms | eager | compile | ratio to the faster")
    for name, part in parts(model, torch).items():
        programs = programs_of(part, model, options.images, torch)
        seconds = step.in_turn(programs, options.rounds, clock=clock)
        best = min(("eager", "compile"), key=lambda n: statistics.median(seconds[n]))
        ratio = step.median_ratio(seconds[best], seconds["ours"])
        results[name] = {"seconds": seconds, "ratio": ratio}
        cells = (f"{1e3 * statistics.median(values):.1f}" for values in seconds.values())
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        print(" | ".join((name, *cells, spread)), flush=True)
    if options.output:
        machine.write(options.output, {"options": vars(options), "parts": results})


def parts(model: ConfigDict, torch: Any) -> dict[str, Part]:
    """The parts of an iterated self-attention block."""
    C, heads = model.channels, model.heads
    hidden = model.get("mlp_dim") or 2 * C
    rngs = nnx.Rngs(0)
    functional = torch.nn.functional

    def our_attention(qkv: jax.Array) -> jax.Array:
        q, k, v = qkv.reshape(len(qkv), -1, 3, heads, C // heads).transpose(2, 0, 3, 1, 4)
        return attend(q, k, v).swapaxes(1, 2).reshape(*qkv.shape[:-1], C)

    def attention(qkv: Tensor) -> Tensor:
        q, k, v = qkv.flatten(2).unflatten(1, (3, heads, -1)).transpose(-1, -2).unbind(1)
        y = functional.scaled_dot_product_attention(q, k, v)
        return y.transpose(-1, -2).flatten(1, 2)

    def norm(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return scale * (x - mean) / torch.sqrt(variance + 1e-5) + bias

    def mlp(x: Tensor, w: Tensor, b: Tensor, out_w: Tensor, out_b: Tensor) -> Tensor:
        x = functional.gelu(functional.conv2d(x, w, b))
        return functional.conv2d(x, out_w, out_b)

    return {
        "layer norm": Part(layer_norm(C, rngs=rngs), norm, C, [(C, 1, 1)] * 2),
        "to q, k, v": Part(
            linear(C, 3 * C, rngs=rngs), functional.conv2d, C, [(3 * C, C, 1, 1), (3 * C,)]
        ),
        "attention": Part(our_attention, attention, 3 * C),
        "out": Part(linear(C, C, rngs=rngs), functional.conv2d, C, [(C, C, 1, 1), (C,)]),
        "MLP": Part(
            MLP(C, hidden, rngs=rngs),
            mlp,
            C,
            [(hidden, C, 1, 1), (hidden,), (C, hidden, 1, 1), (C,)],
        ),
    }


def programs_of(
    part: Part, model: ConfigDict, images: int, torch: Any
) -> dict[str, Callable[[], Any]]:
    """Functions that compute a part and its gradient for all inputs, ours and theirs."""
    random = np.random.default_rng(0)
    size = token_grid(model.image_size, model.patch_size)
    x = random.normal(size=(images, *size, part.channels)).astype(np.float32)

    @jax.jit
    def gradient(part: Any, x: jax.Array) -> Any:
        y, transpose = jax.vjp(lambda part, x: part(x), part, x)
        return y, transpose(y)

    module = part.ours if isinstance(part.ours, nnx.Module) else jax.tree_util.Partial(part.ours)
    ours = jnp.asarray(x)
    programs = {"ours": lambda: jax.block_until_ready(gradient(module, ours))}
    inputs = [torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))).requires_grad_()]
    for shape in part.parameters:
        values = random.normal(size=shape, scale=0.1).astype(np.float32)
        inputs.append(torch.from_numpy(values).requires_grad_())
    for name, theirs in {"eager": part.theirs, "compile": torch.compile(part.theirs)}.items():

        def run(theirs: Callable[..., Tensor] = theirs) -> Any:
            y = theirs(*inputs)
            return torch.autograd.grad(y, inputs, y.detach())

        programs[name] = run
    return programs


if __name__ == "__main__":
    command.run(main)
