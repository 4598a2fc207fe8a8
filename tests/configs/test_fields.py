"""Fields that follow others: until they are set, in copies, and as numbers when saved."""

from ml_collections import ConfigDict

from akorn_jax import run_config
from configs import fields


def made():
    config = ConfigDict({"model": {"size": 4, "name": "x"}, "eval": {"options": {}}})
    area = fields.computed(lambda size: size**2, config.model, "size")
    config.task = ConfigDict({"area": area})
    return config


def test_a_computed_field_follows():
    config = made()
    assert config.task.area == 16
    config.model.size = 3
    assert config.task.area == 9
    assert run_config.to_dict(config)["task"] == {"area": 9.0}


def test_a_copy_follows_its_own():
    config = made()
    changed = run_config.override(config, ["--config.model.size=5"])
    assert (config.task.area, changed.task.area) == (16, 25)


def test_what_is_set_stays():
    changed = run_config.override(made(), ["--config.task.area=7", "--config.model.size=5"])
    assert changed.task.area == 7
