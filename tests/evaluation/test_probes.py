"""Probes of planted representations: what is there is found, what is not is not."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from sklearn.linear_model import LogisticRegression, RidgeCV

from akorn_jax.data.records import Examples
from akorn_jax.errors import UserError
from akorn_jax.evaluation import base, object_codes, probes
from akorn_jax.outputs import ModelOutput
from akorn_jax.report import scores
from akorn_jax.tasks.autoencoding import Task
from configs import base as base_config
from tests.report.test_scores import a_run

RNG = np.random.default_rng(0)
M, D = 400, 6
TRAIN = np.arange(M) < M // 2
ATTRIBUTES = {
    "place": RNG.normal(size=(M, 2)),
    "color": RNG.integers(0, 3, M),
}
ENCODED = np.concatenate([ATTRIBUTES["place"], np.eye(3)[ATTRIBUTES["color"]]], axis=1)
CODE = ENCODED @ RNG.normal(size=(5, D))


@pytest.fixture(scope="module")
def encoded():
    return probes.probe(CODE, ATTRIBUTES, TRAIN)


def test_what_is_linearly_encoded_is_found(encoded):
    found = encoded
    assert found["linear"]["place"] == pytest.approx(1, abs=1e-3)
    assert found["linear"]["color"] == 1
    assert found["mlp"]["place"] > 0.95
    assert found["mlp"]["color"] > 0.98
    assert found["dci"].keys() == {"disentanglement", "completeness", "informativeness"}


def test_units_of_the_code_do_not_matter(encoded):
    found = probes.probe(CODE * 10.0 ** np.arange(D) + 7, ATTRIBUTES, TRAIN)
    assert found["linear"] == pytest.approx(encoded["linear"])


def test_noise_tells_nothing():
    found = probes.probe(RNG.normal(size=(M, D)), ATTRIBUTES, TRAIN)
    assert found["linear"]["place"] == pytest.approx(0, abs=0.05)
    assert found["mlp"]["place"] < 0.05
    for kind in ("linear", "mlp"):
        assert found[kind]["color"] == pytest.approx(1 / 3, abs=0.12)
    assert found["dci"]["disentanglement"] < 0.3


def test_a_perceptron_finds_what_is_not_linear():
    code = RNG.normal(size=(M, 2))
    attributes = {"product": np.sign(code[:, :1] * code[:, 1:])}
    found = probes.probe(code, attributes, TRAIN)
    assert found["linear"]["product"] < 0.1
    assert found["mlp"]["product"] > 0.5


def test_linear_probes_are_those_of_scikit_learn():
    noisy = CODE + RNG.normal(size=CODE.shape)
    found = probes.probe(noisy, ATTRIBUTES, TRAIN)
    x = (noisy - noisy[TRAIN].mean(0)) / noisy[TRAIN].std(0)
    r2 = []
    for y in ATTRIBUTES["place"].T:
        r2.append(RidgeCV(probes.ALPHAS).fit(x[TRAIN], y[TRAIN]).score(x[~TRAIN], y[~TRAIN]))
    assert found["linear"]["place"] == pytest.approx(np.mean(r2))
    model = LogisticRegression(max_iter=2000).fit(x[TRAIN], ATTRIBUTES["color"][TRAIN])
    accuracy = model.score(x[~TRAIN], ATTRIBUTES["color"][~TRAIN])
    assert found["linear"]["color"] == pytest.approx(accuracy)


def test_a_model_pays_for_objects_that_it_misses():
    missed = CODE.copy()
    missed[::4] = np.nan
    found = probes.probe(missed, ATTRIBUTES, TRAIN)
    assert found["linear"]["place"] == pytest.approx(0.75, abs=0.06)
    few = np.where(np.arange(M)[:, None] < 1, CODE, np.nan)
    assert probes.probe(few, ATTRIBUTES, TRAIN)["linear"] == {"place": None, "color": None}


def test_a_constant_guess():
    found = probes.constant_scores(ATTRIBUTES, TRAIN)
    assert found["place"] == pytest.approx(0, abs=0.02)
    most = np.bincount(ATTRIBUTES["color"][TRAIN]).argmax()
    assert found["color"] == np.mean(ATTRIBUTES["color"][~TRAIN] == most)


def test_one_class_to_learn_from_and_few_objects():
    attributes = {"color": np.where(TRAIN, 1, ATTRIBUTES["color"])}
    found = probes.probe(CODE, attributes, TRAIN)
    assert found["linear"]["color"] == found["mlp"]["color"]
    few = np.arange(M) < 5
    assert probes.probe(CODE, ATTRIBUTES, few)["linear"]["color"] is not None


# --- objects and their segments


def scene(*rows):
    return np.array([[int(c) for c in row] for row in rows])


TRUE = scene("0011", "0011", "2200", "2203")


def test_objects_are_matched_by_overlap():
    pred = scene("5544", "5544", "7755", "7755")  # 4 is object 1, 7 object 2; 5 has object 3
    entities, usable = np.array([1, 2, 3]), np.array([4, 5, 7])
    assert object_codes.match(TRUE, pred, entities, usable).tolist() == [4, 7, 5]
    assert object_codes.match(TRUE, pred, entities, usable[:2]).tolist() == [4, -1, 5]
    assert object_codes.match(TRUE, pred, entities[:1], usable[2:]).tolist() == [-1]
    ignored = np.where(TRUE == 3, 9, TRUE)
    assert object_codes.match(ignored, pred, entities[:2], usable, ignore_ids=(9,)).tolist() == [
        4,
        7,
    ]


def test_matching_does_not_depend_on_the_names_of_segments():
    true, pred = RNG.integers(0, 5, (2, 12, 12))
    entities = np.arange(1, 5)
    found = object_codes.match(true, pred, entities, np.arange(5))
    names = RNG.permutation(5)
    again = object_codes.match(true, names[pred], entities, np.arange(5))
    np.testing.assert_array_equal(again, names[found])
    assert len(set(found)) == 4


def test_means_of_segments():
    values = np.arange(16.0).reshape(1, 4, 4, 1) * [1, 10]
    means = object_codes.segment_means(values, TRUE[None])
    expected = [values[0][k == TRUE].mean(axis=0) for k in range(4)]
    np.testing.assert_allclose(means[0], expected)
    two = object_codes.segment_means(np.repeat(values, 2, 0), np.stack([TRUE, np.minimum(TRUE, 1)]))
    assert np.isnan(two[1, 2:]).all()


def test_statistics_of_pixels():
    images = np.zeros((1, 4, 4, 3), np.uint8)
    images[0][TRUE == 1] = (255, 0, 51)
    color_place_area = object_codes.pixel_statistics(images, TRUE[None])[0, 1]
    np.testing.assert_allclose(color_place_area, [1, 0, 0.2, 0.125, 0.625, 0.25])


def examples(attributes, num=4, **ids):
    segmentation = np.stack([TRUE.astype(np.uint8)] * num)
    images = np.zeros((num, 4, 4, 3), np.uint8)
    visibility = np.ones((num, 4), np.float32)
    every = {"visibility": visibility, **attributes}
    return Examples(images, segmentation, every, np.arange(num), np.full(num, 3), **ids)


def entity(*shape):
    return RNG.normal(size=(4, 4, *shape))


def test_attributes_of_objects():
    found = object_codes.visible_objects(
        examples(
            {
                "x": entity(), "box": entity(4), "size": RNG.permutation(16).reshape(4, 4),
                "kind": np.arange(16.0).reshape(4, 4), "shape": np.arange(16.0).reshape(4, 4),
                "orientation": entity(), "same": np.ones((4, 4)), "label": np.arange(4),
                "features": entity(9), "other": RNG.normal(size=(4, 7)),
            }
        ),
        {"kind": ["a", "b"]},
    )  # fmt: skip
    kinds = {name: object_codes.kind(values) for name, values in found.attributes.items()}
    classes = dict.fromkeys(("size", "kind", "shape"), "accuracy")
    assert kinds == {"x": "r2", "box": "r2", **classes}
    assert found.scene.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found.entity.tolist() == [1, 2, 3] * 4
    assert found.attributes["kind"].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15]
    assert found.attributes["box"].shape == (12, 4)
    all_of_them = examples({"x": entity()}, background_ids=(), ignore_ids=(3,))
    assert object_codes.visible_objects(all_of_them, {}).entity.tolist() == [0, 1, 2] * 4


def test_what_cannot_be_probed():
    with pytest.raises(UserError, match="say nothing of their objects"):
        object_codes.visible_objects(examples({"same": np.ones((4, 4))}), {})
    with pytest.raises(UserError, match="4 scenes show 0 objects, too few"):
        object_codes.visible_objects(examples({"x": entity()}, background_ids=range(4)), {})


# --- the evaluator

N, SIDE = 60, 8


class Slots(nnx.Module):
    """Masks of the colors 1 to 3 under shuffled names, slots that have color, place and nothing.

    With `cells`, the background has a mask and no slot, and places are in boxes.
    """

    def __init__(self, cells=False):
        self.cells = cells

    def __call__(self, images, *, key, train):
        labels = jnp.rint(images[..., 0] * 255 / 60)
        order = jnp.array([0, 1, 2, 3] if self.cells else [2, 0, 3, 1])
        masks = jnp.stack([labels == k for k in order], axis=1) * 1.0  # [B, 4, H, W]
        y, x = jnp.mgrid[:SIDE, :SIDE]
        area = masks.sum((2, 3)) + 1e-6
        places = jnp.stack([(masks * p).sum((2, 3)) / area for p in (y, x)], axis=-1)
        green = (masks * images[:, None, ..., 1]).sum((2, 3)) / area
        slots = jnp.concatenate([places, green[..., None], 0 * places], axis=-1)
        if not self.cells:
            return ModelOutput(masks=masks, slots=slots)
        boxes = jnp.concatenate([places, places], axis=-1)[:, 1:]
        return ModelOutput(masks=masks, slots=slots[:, 1:, 2:], boxes=boxes)


class Features(nnx.Module):
    """Features of the pixels: which object, and its second color."""

    def __call__(self, images, *, key, train):
        angle = 4 * images[..., 0]
        parts = (10 * jnp.cos(angle), 10 * jnp.sin(angle), images[..., 1])
        return ModelOutput(features=jnp.stack(parts, axis=-1))


class Blank(nnx.Module):
    def __call__(self, images, *, key, train):
        masks = jnp.ones((len(images), 1, SIDE, SIDE))
        return ModelOutput(masks=masks, slots=jnp.ones((len(images), 1, 3)))


def drawn():
    """Three 2x2 blocks that do not touch, with a color and a shape that nothing shows."""
    rng = np.random.default_rng(1)
    segmentation = np.zeros((N, SIDE, SIDE), np.uint8)
    images = np.zeros((N, SIDE, SIDE, 3), np.uint8)
    y, x, color = (np.zeros((N, 4), np.float32) for _ in range(3))
    for i in range(N):
        places = rng.choice(16, 3, replace=False)
        for k, place in enumerate(places, 1):
            top, left = 2 * (place // 4), 2 * (place % 4)
            block = (i, slice(top, top + 2), slice(left, left + 2))
            color[i, k] = rng.integers(0, 4)
            segmentation[block] = k
            images[block] = (60 * k, 60 * color[i, k], 0)
            y[i, k], x[i, k] = top, left
    attributes = {
        "visibility": np.ones((N, 4), np.float32), "y": y, "x": x,
        "color": color, "shape": rng.integers(0, 2, (N, 4)),
    }  # fmt: skip
    return Examples(images, segmentation, attributes, np.arange(N), np.full(N, 3))


def evaluated(models, found, evaluators="probes"):
    config = ConfigDict({"eval": base_config.get_config().eval, "model": {}, "data_dir": "nowhere"})
    config.data = ConfigDict({"num_clusters": 4, "name": "any"})
    config.eval.update(batch_size=16, num_workers=1, evaluators=evaluators)
    words = {"color": ["a", "b", "c", "d"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes.Evaluator, "_vocabularies", lambda self: words)
        return base.evaluate(models, Task(weights={}), found, config, step=0)


@pytest.fixture(scope="module")
def slots_result():
    return evaluated({"trained": Slots(), "untrained": Blank()}, drawn())


def test_slots_are_probed_beside_the_floors(slots_result):
    result = slots_result
    table = result.summary["probes"]
    assert table["kinds"] == {"y": "r2", "x": "r2", "color": "accuracy", "shape": "accuracy"}
    methods = table["methods"]
    places = ["pixels of its segments", "pixels of true masks"]
    assert list(methods) == ["trained", "untrained", *places, "constant"]
    for name in ("trained", *places):
        assert table["matched"][name] == 1
        assert methods[name]["linear"]["x"] == pytest.approx(1, abs=1e-3)
        assert methods[name]["linear"]["color"] > 0.95
        assert methods[name]["linear"]["shape"] < 0.7
    assert table["matched"]["untrained"] == pytest.approx(1 / 3)  # one segment for three objects
    assert abs(methods["untrained"]["linear"]["x"]) < 0.1
    assert result.summary["linear_r2"] == pytest.approx(1, abs=1e-3)
    assert table["means"]["untrained"]["linear_r2"] < 0.1
    assert set(probes.MEANS) <= result.scalars().keys()
    assert result.notes[1].split() == ["color", "shape", "x", "y", "D", "C", "I"]
    assert result.notes[2].startswith("this model")
    assert result.notes[-1].split()[-3:] == ["-"] * 3  # of a constant


def test_cells_have_no_background_and_their_places_in_boxes():
    found = drawn()
    result = evaluated({"trained": Slots(cells=True)}, found)
    table = result.summary["probes"]
    assert table["matched"]["trained"] == 1
    assert table["methods"]["trained"]["linear"]["x"] == pytest.approx(1, abs=1e-3)
    assert table["methods"]["trained"]["linear"]["color"] > 0.95


def test_features_are_pooled_over_clusters():
    result = evaluated({"trained": Features()}, drawn(), "segmentation,probes")
    assert result.summary["fg_ari"] == 1
    assert result.summary["probes"]["matched"]["trained"] == 1
    linear = result.summary["probes"]["methods"]["trained"]["linear"]
    assert linear["color"] > 0.9
    assert abs(linear["x"]) < 0.3  # features do not know where they are


def test_models_and_data_without_what_is_probed():
    class Masks(nnx.Module):
        def __call__(self, images, *, key, train):
            return ModelOutput(masks=jnp.ones((len(images), 2, SIDE, SIDE)))

    with pytest.raises(UserError, match="masks without slots"):
        evaluated({"trained": Masks()}, drawn())

    class Few(nnx.Module):
        def __call__(self, images, *, key, train):
            masks = jnp.ones((len(images), 1, SIDE, SIDE))
            return ModelOutput(masks=masks, slots=jnp.ones((len(images), 2, 3)))

    with pytest.raises(UserError, match="more slots than masks"):
        evaluated({"trained": Few()}, drawn())
    found = drawn()
    without = Examples(found.images, None, {}, found.records, found.counts)
    result = evaluated({"trained": Slots()}, without)
    assert not result.summary.get("probes")
    assert "no masks" in result.notes[0]


def test_the_report_has_tables_of_them(slots_result):
    run = a_run()
    assert scores.probes(run) is None
    run.summary.update(slots_result.summary)
    tables = scores.probes(run)
    assert tables.columns[0] == ("color", "accuracy")
    assert tables.columns[2] == ("x", "R²")
    (linear, rows), (perceptron, others) = tables.groups
    assert (linear, perceptron) == ("Linear probes", "Multilayer perceptron")
    assert rows[0][0] == "this run"
    assert rows[0][1][2] == pytest.approx(1, abs=1e-3)
    assert [name for name, _ in rows][-1] == "constant"
    assert "constant" not in [name for name, _ in others]
    assert tables.dci[0] == ("this run", [*(slots_result.summary[n] for n in probes.DCI), 1.0])
