"""Training steps a second: this library against the official PyTorch implementation.

    python -m benchmarks.train_step --output=train_step.json
    python -m benchmarks.train_step --baseline=/path/to/a/clone/of/autonomousvision/akorn

A step is forward, NT-Xent, backward and Adam on a batch of views that is given: augmentation is
left out, which one side does on the device and the other in worker processes. With `--baseline`
both sides take steps in turn, round after round, in one process, so that other load on the machine
hits both; PyTorch runs eagerly, with channels_last and with torch.compile, and the fastest is
quoted. Rates are medians over rounds, ratios medians of the rounds' ratios.
"""

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx

from akorn_jax import losses
from akorn_jax.models import akorn, itrsa

SMALL = {"channels": 32, "num_steps": 4, "heads": 2}
PAPER = {"channels": 128, "num_steps": 8, "heads": 8}
CASES = {
    "AKOrN attn, C 32, T 4": (akorn, {**SMALL, "remat": True}),
    "AKOrN attn, C 128, T 8": (akorn, {**PAPER, "remat": True}),
    "AKOrN conv 5, C 128, T 8": (akorn, {**PAPER, "connectivity": "conv", "kernel_size": 5}),
    "ItrSA, C 128, T 8": (itrsa, PAPER),
}
# Our arguments by the official ones' names.
OFFICIAL = {
    "channels": "ch",
    "num_steps": "T",
    "heads": "heads",
    "connectivity": "J",
    "kernel_size": "ksize",
}
VARIANTS = ("eager", "channels_last", "compile")

Step = Callable[[], None]


def ours(module: Any, arguments: dict[str, Any], batch: int) -> tuple[Step, dict[str, float]]:
    """A function that takes one step, and what its program needs."""
    model = module.Model(**arguments, patch_size=4, image_size=32, rngs=nnx.Rngs(0))
    graphdef, params, buffers = nnx.split(model, nnx.Param, ...)
    transformation = optax.adam(1e-3)
    state = [params, transformation.init(params)]
    views = jax.random.uniform(jax.random.key(0), (batch, 32, 32, 3))

    def update(params: Any, moments: Any, key: jax.Array) -> tuple[Any, Any]:
        def loss(params: Any) -> jax.Array:
            z = nnx.merge(graphdef, params, buffers)(views, key=key).embedding
            return losses.nt_xent(z[0::2], z[1::2], 0.1)

        updates, moments = transformation.update(jax.grad(loss)(params), moments, params)
        return optax.apply_updates(params, updates), moments

    key = jax.random.key(1)
    start = time.perf_counter()
    program = jax.jit(update, donate_argnums=(0, 1)).lower(*state, key).compile()
    needs = {
        "compile_seconds": time.perf_counter() - start,
        "temp_megabytes": program.memory_analysis().temp_size_in_bytes / 1e6,
        "megaflops_per_image": program.cost_analysis()["flops"] / batch / 1e6,
    }

    def step() -> None:
        state[:] = jax.block_until_ready(program(*state, key))

    return step, needs


def official(arguments: dict[str, Any], module: Any, batch: int, variant: str) -> Step:
    """A function that takes one step of the official implementation."""
    torch = importlib.import_module("torch")
    common = {OFFICIAL[k]: v for k, v in arguments.items() if k in OFFICIAL}
    if module is akorn:
        make = importlib.import_module("source.models.objs.knet").AKOrN
        common = {"J": "attn", "c_norm": None, "autorescale": False, **common}
    else:
        make = importlib.import_module("source.models.objs.vit").ViT
        common |= {"mlp_dim": 2 * arguments["channels"]}
    net = make(psize=4, imsize=32, **common)
    for parameter in net.parameters():  # some share memory on a CPU, which no training run does
        parameter.data = parameter.data.clone()
    views = torch.rand(batch, 3, 32, 32)
    if variant == "channels_last":
        net, views = (x.to(memory_format=torch.channels_last) for x in (net, views))
    forward = torch.compile(net) if variant == "compile" else net
    adam = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3)
    partner = torch.arange(batch).roll(batch // 2)

    def step() -> None:
        adam.zero_grad()
        z = torch.nn.functional.normalize(forward(views))
        z = torch.cat([z[0::2], z[1::2]])
        logits = z @ z.T / 0.1 - 1e8 * torch.eye(batch)
        torch.nn.functional.cross_entropy(logits, partner).backward()
        adam.step()

    return step


def measure(steps: dict[str, Step], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds a step of each, round by round, in turn."""
    for step in steps.values():
        step()
        step()
    seconds = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(repeats):
                step()
            seconds[name].append((time.perf_counter() - start) / repeats)
    return seconds


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The measurements of one case."""
    module, arguments = CASES[name]
    step, needs = ours(module, arguments, options.batch_size)
    steps = {"ours": step}
    if options.baseline:
        for variant in VARIANTS:
            steps[variant] = official(arguments, module, options.batch_size, variant)
    seconds = measure(steps, options.rounds, options.repeats)
    result = {
        "case": name,
        **needs,
        "seconds": seconds,
        "images_per_second": {
            n: options.batch_size / statistics.median(values) for n, values in seconds.items()
        },
    }
    if options.baseline:
        best = min(VARIANTS, key=lambda variant: statistics.median(seconds[variant]))
        ratios = [b / o for b, o in zip(seconds[best], seconds["ours"], strict=True)]
        result |= {"best_baseline": best, "ratios": ratios, "ratio": statistics.median(ratios)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--baseline", help="a clone of the official repository; needs PyTorch")
    parser.add_argument("--cases", default="", help="names of cases, or parts of them, by commas")
    parser.add_argument("--batch_size", type=int, default=128, help="images a step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3, help="steps a round")
    parser.add_argument("--output", type=Path, help="a JSON file")
    options = parser.parse_args()
    if options.baseline:
        sys.path.insert(0, options.baseline)
    parts = options.cases.split(",")
    results = []
    for name in CASES:
        if any(part in name for part in parts):
            results.append(run(name, options))
            show(results[-1])
    if options.output:
        machine = {
            "device": jax.devices()[0].device_kind,
            "cores": len(os.sched_getaffinity(0)),
            "load": os.getloadavg(),
            "python": platform.python_version(),
            "jax": jax.__version__,
        }
        options.output.write_text(json.dumps({"machine": machine, "results": results}, indent=2))


def show(result: dict[str, Any]) -> None:
    rates = ", ".join(f"{n} {r:,.0f}" for n, r in result["images_per_second"].items())
    print(
        f"{result['case']}: images/s {rates}; compiled in {result['compile_seconds']:.1f} s, "
        f"{result['temp_megabytes']:.0f} MB, {result['megaflops_per_image']:.0f} MFLOP an image"
    )
    if "ratio" in result:
        low, high = min(result["ratios"]), max(result["ratios"])
        print(
            f"  {result['ratio']:.2f} times the best baseline, {result['best_baseline']} "
            f"({low:.2f} to {high:.2f})"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
