"""What a measurement ran on, and where it is written."""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from akorn_jax.runtime import storage

# Dense peaks by the vendors' data sheets, in TFLOP/s. JAX multiplies float32 on these GPUs in
# TF32, on TPUs in bfloat16. Names are JAX's `device_kind`.
PEAKS = {
    "NVIDIA A100-SXM4-80GB": {"bfloat16": 312.0, "float32": 156.0},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989.4, "float32": 494.7},
    "NVIDIA H200": {"bfloat16": 989.4, "float32": 494.7},
    "TPU v4": {"bfloat16": 275.0, "float32": 275.0},
    "TPU v5 lite": {"bfloat16": 197.0, "float32": 197.0},
    "TPU v5": {"bfloat16": 459.0, "float32": 459.0},
    "TPU v6 lite": {"bfloat16": 918.0, "float32": 918.0},
}


PRODUCT = 2048  # side of the matrices
PRODUCT_FLOPS = 2 * PRODUCT**3


def peak(dtype: str) -> float | None:
    """FLOP/s of the first device by its data sheet; None where `PEAKS` does not have it."""
    stated = PEAKS.get(jax.devices()[0].device_kind)
    return stated and 1e12 * stated[dtype]


def timed_product(dtype: str) -> Callable[[], Any]:
    """A product of two square matrices, `PRODUCT_FLOPS`: what a processor does at its best."""
    matrix = jnp.ones((PRODUCT, PRODUCT), dtype)
    multiply = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(multiply(matrix, matrix))


def peak_or_timed(dtype: str) -> float:
    """FLOP/s by the data sheet, or of the fastest of five products timed now."""
    stated = peak(dtype)
    if stated is not None:
        return stated
    multiply, seconds = timed_product(dtype), []
    for _ in range(6):
        start = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - start)
    return PRODUCT_FLOPS / min(seconds)


def describe() -> dict[str, Any]:
    """The device, the processor, the versions and how busy the machine is."""
    return {
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "jax": jax.__version__,
        "platform": jax.devices()[0].client.platform_version,
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def write(path: str | Path, result: dict[str, Any]) -> None:
    """Writes `result` and what it was measured on as JSON; makes the directory if need be.

    Paths among the values become their text. A file of that name is replaced at once.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": describe(), **result}, indent=1, default=str)
    storage.write(path, f"{text}\n".encode())


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()
