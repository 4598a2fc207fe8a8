import dataclasses
import html.parser
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from akorn_jax import evaluate, report, sample
from akorn_jax.errors import UserError
from akorn_jax.report import page
from akorn_jax.report import run as runs

VOID = {"meta", "link", "img", "input", "br", "wbr"}


class Checker(html.parser.HTMLParser):
    """Collects what is wrong with a page, its elements and its text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.wrong, self.text, self.elements = [], [], [], [], []
        self.feed(text)
        self.wrong += self.open
        self.wrong += [name for name in set(self.ids) if self.ids.count(name) > 1]

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "img" and not attrs.get("alt"):
            self.wrong.append("an image without a description")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


@pytest.fixture(scope="module")
def oscillators_page(oscillators_config, oscillators_run):
    path = report.write(oscillators_config, oscillators_run)
    assert path == oscillators_run / "report.html"
    return path.read_text()


@pytest.fixture(scope="module")
def slots_page(slots_config, slots_run):
    return report.write(slots_config, slots_run).read_text()


@pytest.mark.parametrize("kind", ["oscillators_page", "slots_page"])
def test_pages_are_sound_small_and_self_contained(kind, request):
    text = request.getfixturevalue(kind)
    checked = Checker(text)
    assert checked.wrong == []
    assert len(text.encode()) < page.MAX_BYTES
    for tag, attrs in checked.elements:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("data:", "#")), (tag, attrs)
        if tag == "label" and "for" in attrs:
            assert attrs["for"] in checked.ids
        if tag == "a":
            assert attrs["href"][1:] in checked.ids
    assert "@import" not in text
    assert "url(" not in text


def test_it_says_what_the_run_was(oscillators_page, oscillators_run):
    words = " ".join("".join(Checker(oscillators_page).text).split())
    summary = json.loads((oscillators_run / "metrics.json").read_text())
    assert f"{summary['fg_ari']:.3f}" in words
    assert f"{summary['baselines']['position']['mbo']:.3f}" in words
    assert "python launch.py --config=configs/demo.py --config.seed=0" in words
    assert f"jax {jax.__version__}" in words
    assert "training time0:03" in words
    assert "config.json" in words


def test_every_scene_has_a_card(oscillators_page, oscillators_run):
    cards = [a for _, a in Checker(oscillators_page).elements if a.get("class") == "card"]
    kept = np.load(oscillators_run / "metrics_per_image.npz")
    assert {int(card["data-index"]) for card in cards} == set(range(16))
    for card in cards:
        index = int(card["data-index"])
        assert float(card["data-fg-ari"]) == pytest.approx(kept["fg_ari"][index], abs=1e-6)


def test_the_animation_has_a_frame_for_each_step(oscillators_page, oscillators_run):
    del oscillators_page  # written with it
    with Image.open(oscillators_run / "figures" / "oscillators.gif") as animation:
        assert animation.n_frames == 3


def test_a_model_with_slots_shows_them_and_no_oscillators(slots_page, slots_config):
    checked = Checker(slots_page)
    assert "slots" in checked.ids
    assert "oscillators" not in checked.ids
    described = [a["alt"] for t, a in checked.elements if t == "img"]
    slots = [alt for alt in described if ", slot " in alt]
    recons = [alt for alt in described if alt.endswith("reconstructed.")]
    assert len(slots) == slots_config.model.num_slots * len(recons) > 0
    attention = [alt for alt in described if ": attention of slot " in alt]
    assert len(attention) == 2 * len(slots)  # in motion, and side by side


def test_without_scores_of_images_slots_are_shown_all_the_same(slots_config, slots_run):
    """As for sets of objects on scenes without masks."""
    run = dataclasses.replace(runs.read(slots_run, slots_config), scores={})
    checkpoint = evaluate.restore(slots_config, slots_run)
    checked = Checker(page.render(run, [], checkpoint, evaluate.load(slots_config)))
    assert checked.wrong == []
    assert "slots" in checked.ids
    assert "scenes" not in checked.ids


def test_samples_are_shown_where_there_are_some(slots_page, slots_config, slots_run, tmp_path):
    assert "samples" not in Checker(slots_page).ids
    run = shutil.copytree(slots_run, tmp_path / "run")
    (run / "figures" / "samples.png").write_bytes(sample.grid(np.zeros((2, 8, 8, 3))))
    checked = Checker(report.write(slots_config, run).read_text())
    assert checked.wrong == []
    assert "samples" in checked.ids
    assert "Sampled images." in [a.get("alt") for tag, a in checked.elements if tag == "img"]


def test_runs_are_compared(oscillators_config, oscillators_run, tmp_path):
    other = shutil.copytree(oscillators_run, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"seed": 1}))
    text = report.write(oscillators_config, oscillators_run, [other]).read_text()
    assert "mean of 2 seeds" in text


def test_an_unfinished_run_is_refused(oscillators_config, oscillators_run, tmp_path):
    with pytest.raises(UserError, match=r"has no metrics.json; run --mode=evaluate"):
        report.write(oscillators_config, tmp_path)
    copy = shutil.copytree(oscillators_run, tmp_path / "run")
    (copy / "predictions.npz").unlink()
    with pytest.raises(UserError, match=r"predictions.npz does not fit metrics.json; evaluate"):
        report.write(oscillators_config, copy)
    summary = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps(summary | {"step": 1}))
    with pytest.raises(
        UserError, match=r"metrics.json is of step 1, the newest checkpoint of step 12"
    ):
        report.write(oscillators_config, copy)
    (copy / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"scores cannot be read"):
        report.write(oscillators_config, copy)
