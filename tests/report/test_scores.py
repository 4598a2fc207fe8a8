import dataclasses

import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from akorn_jax.errors import UserError
from akorn_jax.report import run as runs
from akorn_jax.report import scores
from configs import demo


def a_run(seed=0, fg_ari=0.5, name="a", **changes):
    config = demo.get_config()
    config.seed = seed
    config.update(changes)
    summary = {
        "step": 5, "dataset": config.data.name, "split": "test", "num_images": 4,
        "fg_ari": fg_ari, "fg_ari_se": 0.01, "mbo": None,
    }  # fmt: skip
    return runs.Run(epath.Path(name), config, summary, [], {"fg_ari": np.full(4, 0.5)}, {}, [])


def titles(groups):
    return [group.title for group in groups]


def test_seeds_have_a_mean_and_its_standard_error():
    values = [0.5, 0.7, 0.9]
    first, *rest = [a_run(seed, value, f"s{seed}") for seed, value in enumerate(values)]
    groups = scores.table(first, rest)
    assert titles(groups) == ["Runs", "Seeds of this recipe"]
    mean = groups[1].rows[-1]
    assert mean.name == "mean of 3 seeds"
    assert mean.cells[0].value == pytest.approx(0.7)
    assert mean.cells[0].error == pytest.approx(np.std(values, ddof=1) / 3**0.5)
    assert mean.error == "standard error over seeds"
    assert mean.cells[1] == scores.Cell(None, None)


def test_other_recipes_are_not_averaged():
    first, other = a_run(), a_run(1, 0.9, "other", batch_size=7)
    groups = scores.table(first, [other])
    assert titles(groups) == ["Runs"]
    assert [row.name for row in groups[0].rows] == ["a", "other"]


def test_scores_on_other_scenes_say_so():
    """Lists of a saved config are the tuples of a recipe."""
    run, same, other = a_run(), a_run(batch_size=7), a_run(name="b", batch_size=7)
    same.config.data.crop = list(same.config.data.crop)
    other.config.data.size = 16
    other.summary["split"] = "validation"
    rows = scores.table(run, [same, other])[0].rows
    assert rows[1].name == "a"
    assert rows[2].name == "b (other scenes: data.size 16, split validation)"


def test_one_seed_twice_is_refused():
    with pytest.raises(UserError, match=r"--compare=b: has the recipe and the seed 0 of a"):
        scores.table(a_run(), [a_run(name="b")])


def test_published_scores_stand_beside_the_same_data_alone():
    entry = {
        "method": "AKOrN", "source": "arXiv 2410.13821", "dataset": "tetrominoes/official",
        "fg_ari": [0.886, 0.017],
    }  # fmt: skip
    drawn = a_run()
    drawn.config.published = [ConfigDict(entry)]
    assert titles(scores.table(drawn, [])) == ["Runs"]
    original = a_run()
    original.config.published = [ConfigDict(entry)]
    original.config.data.name = "tetrominoes/official"
    group = scores.table(original, [])[-1]
    assert group.title == "Published in arXiv 2410.13821"
    assert "not measured here" in group.note
    assert group.rows[0].kind == "published"
    assert group.rows[0].cells == [scores.Cell(0.886, 0.017), scores.Cell(None)]


def test_other_datasets_have_their_rows():
    run = a_run()
    run = dataclasses.replace(run, elsewhere=[{"dataset": "clevrtex/outd", "fg_ari": 0.25}])
    group = scores.table(run, [])[1]
    assert group.rows[0].name == "clevrtex/outd"
    assert group.rows[0].cells[0].value == 0.25


def test_controls_say_what_they_are():
    run = a_run()
    run.summary["baselines"] = {"position": {"fg_ari": 0.6}}
    run.summary["by_color"] = {
        "distinct": {"num_images": 1, "trained": {"fg_ari": 0.7}, "position": {"fg_ari": 0.1}},
    }
    assert scores.table(run, [])[1].rows[0].name == "position"
    assert scores.by_color(run, "fg_ari") == [
        ("this run", [scores.Cell(0.5, 0.01), scores.Cell(0.7)]),
        ("position", [scores.Cell(0.6), scores.Cell(0.1)]),
    ]


def test_errors_are_sorted_the_other_way():
    run = a_run()
    run.summary["mse"] = 0.1
    run.scores["mse"] = np.zeros(4)
    sortings = dict(scores.sortings(run))
    assert sortings["mse 1"] == "MSE, best first"
    assert sortings["fg_ari -1"] == "FG-ARI, best first"
    assert not any(value.startswith("mbo") for value in sortings)
