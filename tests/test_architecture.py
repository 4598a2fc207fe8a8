"""The house: who may import whom, and that every recipe builds what it names."""

import ast
import importlib
import shutil
from pathlib import Path
from unittest import mock

import jax
import pytest
from etils import epath

from akorn_jax import evaluate, models, optimizer, report, run_config, train
from akorn_jax.errors import UserError
from akorn_jax.training import train_state
from configs import fields
from configs import variants as recipe_variants

ROOT = Path(__file__).parents[1]
RECIPES = sorted(
    path
    for path in (ROOT / "configs").glob("*.py")
    if path.stem not in ("__init__", "base", "data", "fields", "protocols", "published", "variants")
)


def imports(path):
    """The modules that a file imports, with `from a import b` as a and a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module, packages):
    return any(module == p or module.startswith(f"{p}.") for p in packages)


# folder -> modules it must not import
FORBIDDEN = {
    "akorn_jax": ["configs", "datasets", "tensorflow", "torch", "launch"],
    "datasets": ["akorn_jax", "configs", "tensorflow", "torch", "jax.experimental"],
    "configs": ["datasets", "akorn_jax.train", "akorn_jax.evaluate"],
    "akorn_jax/layers": ["akorn_jax.models", "akorn_jax.tasks", "akorn_jax.evaluation"],
    "akorn_jax/models": ["akorn_jax.models", "akorn_jax.tasks", "akorn_jax.evaluation"],
    "akorn_jax/tasks": ["akorn_jax.models", "akorn_jax.train", "akorn_jax.evaluation"],
    "akorn_jax/evaluation": ["akorn_jax.models", "akorn_jax.train", "akorn_jax.evaluate"],
}


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_arrows(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        wrong = [module for module in imports(path) if within(module, FORBIDDEN[folder])]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("kind", ["models", "tasks"])
def test_every_file_exports_what_its_folder_promises(kind):
    exported = {"models": "Model", "tasks": "Task"}[kind]
    for path in (ROOT / "akorn_jax" / kind).glob("[!_]*.py"):
        if path.name in ("base.py", "geco.py"):
            continue
        module = importlib.import_module(f"akorn_jax.{kind}.{path.stem}")
        assert hasattr(module, exported), path.name
        if kind == "tasks":
            assert module.Task.fields
            assert module.Task.views >= 1


def variants(path):
    """The recipe alone and each of its variants, as it tells `variants.choose`."""
    known = []

    def choose(variant, names):
        if not known:  # later calls are those of recipes that it makes use of
            known.extend(names)
        return set()

    with mock.patch.object(recipe_variants, "choose", choose):
        run_config.from_recipe(str(path))
    return ["", *known]


CASES = [(path, variant) for path in RECIPES for variant in variants(path)]
BUILT = set()  # models with their optimizers; many variants differ in their data alone


@pytest.mark.parametrize(("path", "variant"), CASES, ids=[f"{p.stem}:{v}" for p, v in CASES])
def test_every_recipe_builds(path, variant):
    config = run_config.from_recipe(f"{path}:{variant}")
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert f"configs/{path.name}" in docstring, "the docstring gives the command"
    assert not variant or f":{variant}" in docstring, "the docstring tells of the variant"
    train_state.build("tasks", config.task)
    assert config.data.num_clusters > 0
    tx, _ = optimizer.make(config.optimizer, config.num_steps)
    settings = f"{config.model} {config.optimizer}"
    if settings in BUILT:
        return
    # Shapes alone: nothing is computed, however large the model.
    shapes = jax.eval_shape(
        lambda: train_state.create(train_state.build_model(config.model, 0), tx)
    )
    assert jax.tree.leaves(shapes.params)
    BUILT.add(settings)


SMALL = [path for path, variant in CASES if variant == "small"]


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_small_recipes_draw_the_scenes_that_they_cut_up(path):
    data = run_config.from_recipe(f"{path}:small,procedural").data
    if data.max_records is None:
        return
    stops = [part[1] or part[0] for part in (data.train, data.validation, data.test) if part]
    # Of the scenes drawn, at least half have no more objects than a recipe asks for.
    share = 1 if data.min_objects is None and data.max_objects is None else 2
    assert share * max(stops) <= data.max_records


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_every_discovery_recipe_takes_a_folder(path):
    """Its model stays, its data become the pictures' own, at the size that the model takes."""
    # They need classes or properties, have scenes of their own, or boards instead of pictures.
    others = ("agglomerator", "cifar10", "digits", "set_prediction", "arena", "sudoku")
    if any(name in path.stem for name in others):
        with pytest.raises(UserError, match="'folder' is unknown"):
            run_config.from_recipe(f"{path}:folder")
        return
    for variant in ("", "small") if "small" in variants(path) else ("",):
        recipe = run_config.from_recipe(f"{path}:{variant}")
        config = run_config.from_recipe(f"{path}:{variant},folder")
        assert config.model == recipe.model
        assert (config.data.size,) * 2 == run_config.input_size(recipe)
        assert config.data.num_clusters == recipe.data.num_clusters
        assert config.data.train == config.data.test == (0, None)
        assert config.data.max_records is config.data.crop is None
        assert config.published == ()
    if "procedural" in variants(path):
        with pytest.raises(UserError, match="exclude each other"):
            run_config.from_recipe(f"{path}:procedural,folder")


# Trainable parameters of the official models.
COUNTS = {
    "tetrominoes_akorn": 278_400,
    "tetrominoes_akorn:conv": 613_888,
    "tetrominoes_itrsa": 278_912,
    "dsprites_akorn": 302_976,
    "dsprites_akorn:conv": 1_007_104,
    "dsprites_itrsa": 303_488,
    "clevr_akorn": 1_167_104,
    "clevr_akorn:conv": 4_049_920,
    "clevr_itrsa": 1_168_128,
    "clevrtex_akorn": 1_167_616,
    "clevrtex_akorn:l2": 1_760_256,
    "clevrtex_akorn:large": 6_666_240,
    "clevrtex_itrsa:l2": 1_695_232,
    "cifar10_akorn": 7_023_760,
    "cifar10_resnet": 11_173_962,  # torchvision's 11,689,512 with a 3x3 stem and 10 classes
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts_are_the_official_ones(name):
    stem, _, variant = name.partition(":")
    config = run_config.from_recipe(f"{ROOT}/configs/{stem}.py:{variant}")
    shapes = jax.eval_shape(lambda: train_state.split(train_state.build_model(config.model, 0))[1])
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == COUNTS[name]


def test_a_model_is_two_files(tmp_path, tiny):
    """A stranger's model and recipe train, evaluate and report with nothing else changed."""
    package = tmp_path / "models_of_a_stranger"
    package.mkdir()
    shutil.copy(ROOT / "tests" / "toy.py", package / "toy_stranger.py")
    with mock.patch.object(models, "__path__", [*models.__path__, str(package)]):
        tiny.model = fields.model("toy_stranger", width=2)
        tiny.task = fields.task("autoencoding", weights={"nll": 1.0, "kl": 1e-3})
        tiny.num_steps = tiny.checkpoint_every = tiny.log_every = 4
        tiny.eval.baselines = False
        workdir = epath.Path(tmp_path / "run")
        assert train.train(tiny, workdir) is train.Outcome.DONE
        summary = evaluate.evaluate(tiny, workdir)
        assert {"fg_ari", "mbo", "mse"} <= summary.keys()
        assert "slots" in report.write(tiny, workdir).read_text()


# The package's own rooms; a thirtieth file beside the loop would hide it.
MAX_ENTRIES = 24
PACKAGE = ROOT / "akorn_jax"
# The command of a room and the lazy front door know the rest.
DOORS = (PACKAGE / "convert" / "__main__.py", PACKAGE / "__init__.py")


def test_the_package_stays_a_table_of_contents():
    entries = [p.name for p in PACKAGE.iterdir() if p.name not in ("__pycache__", "py.typed")]
    assert len(entries) <= MAX_ENTRIES, sorted(entries)


def test_no_room_looks_back():
    """Rooms of the package import each other in one direction only."""
    left = {}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        others = left.setdefault(room, set())
        if path not in DOORS:
            names = [module.split(".")[1] for module in imports(path) if "akorn_jax." in module]
            others.update(name for name in names if name != room)
    while left:
        free = [room for room, others in left.items() if not others & left.keys()]
        circle = {room: sorted(others & left.keys()) for room, others in left.items()}
        assert free, f"a circle: {circle}"
        left = {room: others for room, others in left.items() if room not in free}
