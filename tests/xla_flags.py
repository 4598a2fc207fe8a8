"""XLA's flags for tests, which compile far longer than they compute."""

from importlib import metadata

QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    # The new way to emit fusions takes two thirds of the time; later versions know no other.
    QUICK += " --xla_cpu_use_fusion_emitters=false"
