"""Settings: what is refused, and that a run's directory knows its run."""

import pytest
from etils import epath
from ml_collections import ConfigDict

from akorn_jax import run_config
from akorn_jax.errors import UserError
from configs import base, demo, dsprites_slot_attention


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
    with pytest.raises(UserError, match=message):
        run_config.check_same(config, workdir)


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


@pytest.mark.parametrize("recipe", ["demo.py", "clevr_akorn.py", "clevrtex_akorn.py:procedural"])
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
