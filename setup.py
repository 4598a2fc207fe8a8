"""The wheel: akorn_jax, and below akorn_jax/recipes what the `akorn-jax` command runs.

`configs`, `datasets` and `launch` are names that other packages use too, so they are not installed
under them. All else is in pyproject.toml.
"""

from setuptools import find_packages, setup

RECIPES = "akorn_jax.recipes"

shipped = [
    package
    for folder in ("configs", "datasets")
    for package in (folder, *(f"{folder}.{inner}" for inner in find_packages(folder)))
]
setup(
    packages=[
        *find_packages(include=["akorn_jax", "akorn_jax.*"]),
        RECIPES,
        *(f"{RECIPES}.{package}" for package in shipped),
    ],
    package_dir={
        RECIPES: ".",  # launch.py
        **{f"{RECIPES}.{package}": package.replace(".", "/") for package in shipped},
    },
)
