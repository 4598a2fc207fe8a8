"""Runs of the arena: completed once, kept when they fail, and the same in all files."""

import dataclasses
import json
import re

import numpy as np
import pytest

from benchmarks.arena import page, processes, results, runs
from benchmarks.arena.runs import Budget, Entry
from configs import arena


def test_runs_are_trained_scored_and_written_down(out):
    entry = Entry(out, "tetrominoes", "akorn", 1)
    found = runs.read(entry)
    assert found["images"] == 96
    assert found["steps"] == 12
    assert found["parameters"] == 3 * 2 + 2 + 2 * 3 + 3 + 1
    assert found["megabytes"] == 120
    assert found["images_per_second"] == pytest.approx(96 / found["seconds"])
    assert {"fg_ari", "mbo", "ari", "miou", "mse"} <= found["scores"].keys()
    assert {"fg_ari", "mbo"} <= found["untrained"].keys()
    assert "--config.seed=1" in found["command"]
    labels, recon = runs.pictures(entry, 8)
    assert labels.shape == (8, 32, 32)
    assert recon.shape == (8, 32, 32, 3)


def test_a_failure_stays_with_its_reason_and_takes_nothing_along(out, toys):
    (row,) = (r for r in results.systems(out, "tetrominoes", 2) if r.name == "diverges")
    assert row.values("fg_ari") == []
    assert len(row.failures()) == 2
    assert all(line.startswith(f"seed {i}: ") for i, line in enumerate(row.failures()))
    assert "finite" in row.failures()[0]


def test_what_has_ended_is_left_alone(out, toys, overrides):
    before = len(toys)
    for system in arena.SYSTEMS:
        assert not runs.complete(Entry(out, "tetrominoes", system, 0), Budget(images=96), overrides)
    assert len(toys) == before


def test_an_interrupted_run_is_resumed(out, toys, overrides, tmp_path, monkeypatch):
    entry = Entry(tmp_path, "tetrominoes", "akorn", 0)

    def stop(*_, **__):
        raise processes.Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(processes, "call", stop)
        with pytest.raises(processes.Interrupted):
            runs.complete(entry, Budget(images=32), overrides)
    assert processes.read_outcome(entry.workdir) is None
    assert runs.complete(entry, Budget(images=32), overrides)
    assert runs.read(entry)["failed"] == ""


def test_seconds_become_steps(out, toys, overrides, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "step_seconds", lambda *_: 0.25)
    entry = Entry(tmp_path, "tetrominoes", "akorn", 0)
    path = runs.make_recipe(entry, Budget(seconds=5), overrides, overrides)
    assert json.loads(path.read_text())["num_steps"] == 20
    monkeypatch.setattr(processes, "step_seconds", None)  # not timed again for another seed
    other = dataclasses.replace(entry, seed=1)
    assert runs.make_recipe(other, Budget(seconds=5), overrides, overrides) == path


def test_json_page_and_document_agree(out):
    content = json.loads((out / "arena.json").read_text())
    rows = {row["name"]: row for row in content["scenes"]["tetrominoes"]["rows"]}
    assert {"akorn", "diverges", "position", "pixel colors", "color components"} == rows.keys()
    assert content["budget"] == {"seconds": None, "images": 96}
    toy = rows["akorn"]
    assert [seed["seed"] for seed in toy["seeds"]] == [0, 1]
    scores = [seed["scores"]["fg_ari"] for seed in toy["seeds"]]
    assert toy["mean"]["fg_ari"] == pytest.approx(np.mean(scores))
    assert toy["se"]["fg_ari"] == pytest.approx(np.std(scores, ddof=1) / 2**0.5)
    text, html = (out / "arena.md").read_text(), (out / page.FILE).read_text()
    shown = page.number(toy["mean"]["fg_ari"])
    assert re.search(rf"\| Toy \| {shown} ± ", text)
    assert f"{shown}<span" in html
    for reason in [seed["failed"] for seed in rows["diverges"]["seeds"]]:
        assert reason in text
    assert text.count("| *") == 3  # trivial baselines, those without patches
    assert "96 images" in text
    assert len(html.encode()) < page.MAX_BYTES
