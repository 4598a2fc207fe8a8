"""The command `akorn-jax`: launch.py with the recipes, from any directory."""

import importlib
import sys
from pathlib import Path

from akorn_jax.runtime import processes


def main() -> None:
    """Runs launch.py of the checkout, or what setup.py installs of it."""
    installed = Path(__file__).parent / "recipes"
    sys.path.insert(0, str(installed if installed.is_dir() else Path(__file__).parents[1]))
    launch = importlib.import_module("launch")
    processes.end(lambda: launch.main(sys.argv[1:]))
