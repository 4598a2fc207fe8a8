"""Packages that only an extra of this one installs, e.g. `pip install 'akorn-jax[data]'`."""

# The name that is imported: the package, and the extra whose requirements-EXTRA.txt has it.
EXTRAS = {
    "h5py": ("h5py", "data"),
    "pycocotools": ("pycocotools", "data"),
    "sklearn": ("scikit-learn", "data"),
    "wandb": ("wandb", "train"),
}


def explain(error: ModuleNotFoundError) -> str:
    """What to install, in one line; raises `error` if what is missing is of no extra."""
    module = str(error.name).partition(".")[0]
    if module not in EXTRAS:
        raise error
    package, extra = EXTRAS[module]
    return f"{package} is not installed; pip install 'akorn-jax[{extra}]'"
