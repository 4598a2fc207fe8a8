"""Settings: what is refused, and that a run's directory knows its run."""

import json
import os
import re

import pytest
from etils import epath
from ml_collections import ConfigDict

from akorn_jax import run_config
from akorn_jax.errors import UserError
from configs import base, demo, dsprites_gnm, dsprites_slot_attention, tetrominoes_efficient_morl


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.num_step=3", "config.num_step: no such field; did you mean num_steps"),
        ("--config.model.chanels=3", "config.model.chanels: no such field; did you mean channels"),
        ("--config.seed.x=3", "config.seed.x: no such field; there are none"),
        ("--config.num_steps=many", "config.num_steps=many: invalid literal"),
        ("--config.num_steps=1.5", "config.num_steps=1.5: invalid literal"),
        ("--config.model.gta=maybe", "config.model.gta=maybe"),
        ("--config.model=3", "config.model=3"),
    ],
)
def test_wrong_overrides_are_one_line(argument, message):
    with pytest.raises(UserError, match=message) as error:
        run_config.override(demo.get_config(), [argument])
    assert "\n" not in str(error.value)


def test_a_part_that_the_protocol_lacks_can_be_set():
    config = dsprites_slot_attention.get_config()
    assert config.data.validation is None
    changed = run_config.override(config, ["--config.data.validation=(60320, 60384)"])
    assert changed.data.validation == (60320, 60384)


def test_overrides_keep_their_types():
    config = run_config.override(
        demo.get_config(),
        [
            "--config.num_steps=30",
            "--config.optimizer.learning_rate=1",
            "--config.data.train=(0, 10)",
            "--config.data.max_objects=4",
            "--config.data.raw_dir=/somewhere",
            "--config.model.gta=false",
        ],
    )
    assert config.num_steps == 30
    assert isinstance(config.optimizer.learning_rate, float)
    assert config.data.train == (0, 10)
    assert config.data.max_objects == 4
    assert config.data.raw_dir == "/somewhere"
    assert config.model.gta is False


def test_missing_recipe_names_its_neighbours():
    with pytest.raises(UserError, match=r"no such file; configs has .*tetrominoes_akorn\.py"):
        run_config.from_recipe("configs/tetrominoes_akron.py")


def test_unknown_variant_lists_the_known():
    with pytest.raises(UserError, match="variant 'cnov' is unknown; this recipe has conv"):
        run_config.from_recipe("configs/tetrominoes_akorn.py:cnov")


def test_a_file_that_is_no_recipe(tmp_path):
    (tmp_path / "x.py").write_text("y = 1\n")
    with pytest.raises(UserError, match="is not a recipe"):
        run_config.from_recipe(str(tmp_path / "x.py"))


def test_a_run_knows_its_config(tmp_path):
    workdir = epath.Path(tmp_path / "run")
    config = demo.get_config()
    run_config.check_same(config, workdir)  # nothing there yet
    run_config.save(config, workdir)
    assert run_config.to_dict(run_config.from_workdir(workdir)) == run_config.to_dict(config)
    config.log_every, config.data.raw_dir = 7, "/elsewhere"  # not what a run is
    run_config.check_same(config, workdir)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, "config.seed=0, not 5"),
        ({"model.channels": 64}, "config.model.channels=32, not 64"),
        ({"num_steps": 7}, "config.num_steps=2500, not 7"),  # where the cosine ends
    ],
)
def test_a_directory_of_another_run_is_refused(tmp_path, change, message):
    workdir = epath.Path(tmp_path)
    run_config.save(demo.get_config(), workdir)
    config = demo.get_config()
    config.update_from_flattened_dict(change)
    run_config.check_same(config, workdir)  # nothing was saved there, so nothing is lost
    (workdir / "checkpoints" / "4").mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        run_config.check_same(config, workdir)


def test_a_run_with_a_field_that_is_gone_goes_on(tmp_path):
    workdir, config = epath.Path(tmp_path), tetrominoes_efficient_morl.get_config()
    saved = run_config.to_dict(config)
    saved["task"]["geco"]["minimum"] = -8462.0  # the model says it now
    (workdir / "config.json").write_text(json.dumps(saved))
    (workdir / "checkpoints" / "4").mkdir(parents=True)
    run_config.check_same(config, workdir)
    assert run_config.from_workdir(workdir).task.geco.to_dict() == config.task.geco.to_dict()


def test_a_longer_run_may_go_on_under_a_constant_schedule(tmp_path):
    config = demo.get_config()
    config.optimizer.schedule = "constant"
    run_config.save(config, epath.Path(tmp_path))
    config.num_steps = 10_000
    run_config.check_same(config, epath.Path(tmp_path))


def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(UserError, match=r"has no config.json; pass --config as well"):
        run_config.from_workdir(epath.Path(tmp_path))


def test_a_damaged_config(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is damaged"):
        run_config.from_workdir(epath.Path(tmp_path))


def test_an_unwritable_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        run_config.save(demo.get_config(), epath.Path(tmp_path / "file" / "run"))


def test_a_run_saved_before_a_field_existed_gets_its_default():
    saved = run_config.to_dict(demo.get_config())
    del saved["eval"]["up_tiling"], saved["data"]["raw_dir"], saved["log_every"]
    config = base.complete(ConfigDict(saved))
    assert config.eval.up_tiling == 1
    assert config.log_every == 50
    assert config.data.name == "tetrominoes/procedural"
    assert config.model.to_dict() == demo.get_config().model.to_dict()
    changed = run_config.override(config, ["--config.data.raw_dir=/x", "--config.eval.up_tiling=2"])
    assert (changed.data.raw_dir, changed.eval.up_tiling) == ("/x", 2)


@pytest.mark.parametrize(
    "recipe", ["demo.py", "clevr_akorn.py", "clevrtex_akorn.py:procedural", "shapes3d_slate.py"]
)
def test_what_was_none_when_saved_can_be_set(recipe, tmp_path):
    workdir = epath.Path(tmp_path)
    config = run_config.from_recipe(f"configs/{recipe}")
    run_config.save(config, workdir)
    back = base.complete(run_config.from_workdir(workdir))
    assert run_config.to_dict(back) == run_config.to_dict(config)
    values = {"data.max_objects": 4, "data.max_records": 7, "data.size": 64, "optimizer.b1": 0.5}
    changed = run_config.override(back, [f"--config.{n}={value}" for n, value in values.items()])
    for name, value in values.items():
        assert changed[name.split(".")[0]][name.split(".")[1]] == value


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("eval.split=val", "config.eval.split='val': choose one of train, validation, test"),
        ("eval.batch_size=0", "config.eval.batch_size=0: give 1 or more"),
        ("eval.pca=0", "config.eval.pca=0: give 1 or more"),
        ("eval.num_workers=-1", "config.eval.num_workers=-1: give 0 or more"),
        ("seed=-1", "config.seed=-1: give 0 or more"),
        ("model.heads=0", "config.model.heads=0: give 1 or more"),
        ("model.num_steps=-1", "config.model.num_steps=-1: give 0 or more"),
        ("data.num_clusters=0", "config.data.num_clusters=0: give 1 or more"),
        ("data.size=0", "config.data.size=0: give 1 or more"),
        ("data.interpolation=Nearest", "config.data.interpolation='Nearest': choose one of"),
        ("data.count=seen", "config.data.count='seen': choose one of visible, listed, none"),
        ("batch_size=none", "config.batch_size=none: this field needs a value"),
        ("dtype=float16", "config.dtype='float16': choose one of float32, bfloat16"),
    ],
)
def test_values_out_of_range_are_one_line(argument, message):
    with pytest.raises(UserError, match=re.escape(message)):
        run_config.override(demo.get_config(), [f"--config.{argument}"])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model.std=nan", "config.model.std=nan: give a finite number"),
        ("model.what_size=0", "config.model.what_size=0: give 1 or more"),
        ("model.encoder_strides=(2, 0, 2)", "config.model.encoder_strides=(2, 0, 2): give 1 or"),
        ("model.size_prior=(0.0, 1e999)", "config.model.size_prior=(0.0, inf): give a finite"),
        ("model.std=0", "config.model.std=0.0: give a positive number"),
        ("model.std=1e-20", "config.model.std=1e-20: give a positive number, 1e-06 or more"),
    ],
)
def test_models_out_of_range_are_one_line(argument, message):
    config = dsprites_gnm.get_config("small,procedural")
    with pytest.raises(UserError, match=re.escape(message)):
        run_config.override(config, [f"--config.{argument}"])


def test_optional_fields_can_be_unset():
    config = run_config.override(
        demo.get_config(), ["--config.data.crop=none", "--config.data.max_records=None"]
    )
    assert config.data.crop is None
    assert config.data.max_records is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("0.5", 0.5), ("geco", "geco"), ("{'name': 'constant', 'value': 2}", {"value": 2})],
)
def test_a_weight_is_a_number_or_a_schedule_or_a_word_whatever_it_was(value, expected):
    for name, config in (
        ("nll", tetrominoes_efficient_morl.get_config()),
        ("kl", tetrominoes_efficient_morl.get_config("small")),
    ):
        changed = run_config.override(config, [f"--config.task.weights.{name}={value}"])
        found = run_config.to_dict(changed)["task"]["weights"][name]
        assert (found | expected if isinstance(expected, dict) else expected) == found


def test_a_part_of_a_schedule_can_be_set():
    config = tetrominoes_efficient_morl.get_config("small")
    changed = run_config.override(config, ["--config.task.weights.kl.stop=0.25"])
    assert changed.task.weights.kl.stop == 0.25
    assert changed.task.weights.kl.name == "linear"


def test_the_wrong_one_of_several_arguments_is_named():
    arguments = ["--config.seed=3", "--config.num_steps=many", "--config.batch_size=4"]
    with pytest.raises(UserError, match=r"^--config\.num_steps=many: invalid"):
        run_config.override(demo.get_config(), arguments)


def test_options_of_the_call_are_free_names():
    config = run_config.override(
        demo.get_config(),
        ["--config.eval.options.decode=autoregressive", "--config.eval.num_slots=7"],
    )
    assert config.eval.options.to_dict() == {"decode": "autoregressive", "num_slots": 7}


def test_paths_mean_one_place(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = run_config.override(
        demo.get_config(), ["--config.data_dir=~//data/", "--config.data.raw_dir=gs://bucket/x"]
    )
    assert config.data_dir == str(tmp_path / "data")
    assert config.data.raw_dir == "gs://bucket/x"


@pytest.mark.parametrize(
    "content", ["[]", '"text"', "7", "{}", '{"model": 1}', "[" * 100_000, "{", "null"]
)
def test_a_damaged_config_is_one_line(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config.json is damaged") as error:
        run_config.from_workdir(epath.Path(tmp_path))
    assert len(str(error.value).splitlines()) == 1


def test_a_config_that_is_no_file(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config.json is damaged"):
        run_config.from_workdir(epath.Path(tmp_path))


@pytest.mark.timeout(20)
def test_a_config_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(UserError, match=r"config.json is damaged .no regular file"):
        run_config.from_workdir(epath.Path(tmp_path))


def test_recipes_without_variants(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text("from configs import demo\ndef get_config():\n    return demo.get_config()\n")
    assert run_config.from_recipe(str(recipe)).model.name == "akorn"
    with pytest.raises(UserError, match="this recipe has no variants; leave out :conv"):
        run_config.from_recipe(f"{recipe}:conv")
