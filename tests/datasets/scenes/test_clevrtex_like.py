"""Textured scenes: the variants' laws, the recipes, solids given by a distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets.errors import DatasetError
from datasets.scenes import clevrtex_like, distance_fields, layout, textures
from datasets.scenes.ray_casting import FAR, Vec
from datasets.scenes.sampling import Window

FIELDS = {
    name: jax.jit(getattr(distance_fields, f"_{name}"))
    for name in ("head", "cone", "icosahedron", "torus", "teapot")
}
POINTS = 1500
PAINT = jax.jit(textures.paint)  # compiled once, of as many points each time
SMALL = Window(48, 64, 192, 256)


def points(array: np.ndarray) -> Vec:
    return Vec.of(jnp.asarray(array, jnp.float32))


# ---------------------------------------------------------------- solids
@pytest.mark.parametrize("name", FIELDS)
def test_fields_never_overestimate_distance(name):
    rng = np.random.default_rng(0)
    a = rng.uniform(-1.5, 1.5, (20000, 3))
    b = a + rng.normal(size=a.shape) * rng.choice([0.01, 0.1, 0.5], (len(a), 1))
    change = np.abs(np.asarray(FIELDS[name](points(a)) - FIELDS[name](points(b))))
    # Between two points a distance changes by no more than they are apart.
    assert (change <= 1.02 * np.linalg.norm(a - b, axis=1) + 1e-5).all()


@pytest.mark.parametrize("name", FIELDS)
def test_solids_stand_on_the_floor_and_fit_their_bound(name):
    axis = np.linspace(-1.5, 1.5, 121)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    inside = grid[np.asarray(FIELDS[name](points(grid))) < 0]
    assert inside[:, 2].min() == pytest.approx(-1, abs=0.06)
    assert np.abs(inside).max() < 1.3
    assert np.linalg.norm(inside, axis=1).max() < distance_fields._BOUND


@pytest.mark.parametrize("name", FIELDS)
def test_rays_stop_on_the_surface(name):
    rng = np.random.default_rng(1)
    origins = rng.normal(size=(3000, 3))
    origins *= 4 / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = rng.uniform(-1, 1, origins.shape) - origins
    solid = clevrtex_like.SOLIDS[name]
    origin, direction = points(origins), points(directions)
    t = np.asarray(jax.jit(solid.enter)(origin, direction))
    hit = t < FAR
    assert 0.1 < hit.mean() < 1
    gap = np.asarray(FIELDS[name](points((origins + directions * t[:, None])[hit])))
    assert np.abs(gap).max() < 0.01
    # Dense steps along the rays find the same hits, but for grazing ones.
    steps = np.linspace(0, 2, 400)[:, None, None]
    reached = (np.asarray(FIELDS[name](points(origins + directions * steps))) < 0).any(0)
    assert (reached != hit).mean() < 0.02
    normal = jax.jit(solid.normal)(points((origins + directions * t[:, None])[hit]))
    facing = np.asarray(normal.dot(points(directions[hit])))
    assert np.quantile(facing, 0.99) < 0.05


def test_a_ray_passes_through_the_torus():
    down = points(np.array([[0.0, 0.0, -1.0], [0.0, 0.0, -1.0]]))
    above = points(np.array([[0.0, 0.0, 2.0], [0.68, 0.0, 2.0]]))
    through, stopped = np.asarray(clevrtex_like.SOLIDS["torus"].enter(above, down))
    assert through == FAR
    assert stopped == pytest.approx(2.36, abs=0.01)


# ---------------------------------------------------------------- materials
def test_sixty_recipes_and_twenty_five_others():
    assert len(textures.RECIPES) == 60
    assert len(textures.UNSEEN) == 25
    assert not set(textures.RECIPES) & set(textures.UNSEEN)
    everything = list((textures.RECIPES | textures.UNSEEN).values())
    assert len(set(everything)) == 85


def _painted(recipe: textures.Recipe, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = textures.material_rows([recipe], np.array([[3.0, 9.0, 2.5]]))
    row = textures.Material(*(v[0] for v in rows))
    color, rise = PAINT(row, points(place))
    return tuple(np.stack([v.x, v.y, v.z], -1) for v in (color, rise))


@pytest.mark.parametrize("table", [textures.RECIPES, textures.UNSEEN], ids=["seen", "unseen"])
def test_every_recipe_paints_a_texture_on_the_ground(table):
    rng = np.random.default_rng(0)
    floor = np.concatenate([rng.uniform(-3, 3, (POINTS, 2)), np.zeros((POINTS, 1))], 1)
    looks = {}
    for name, recipe in table.items():
        color, rise = _painted(recipe, floor)
        assert np.isfinite(color).all(), name
        assert np.isfinite(rise).all(), name
        assert color.min() >= -1e-6, name
        assert color.max() <= 1 + 1e-6, name
        varied = color.std(0).max() / color.mean()
        assert varied > 0.02 or np.abs(rise).std() > 0.05, f"{name} is a plain colour"
        looks[name] = color.mean(0)
    means = np.stack(list(looks.values()))
    apart = np.linalg.norm(means[:, None] - means, axis=-1) + np.eye(len(means))
    assert np.median(apart.min(1)) > 0.01


def test_relief_is_the_slope_of_the_height():
    recipe = textures.RECIPES["awning"]
    place = np.random.default_rng(0).uniform(-1, 1, (POINTS, 3))
    _, rise = _painted(recipe, place)
    # The stripes' height is (1 + sin(2 pi (x + z / 2))) / 2 in cells, three decimals of offset in.
    phase = 2 * np.pi * (place[:, 0] * 1.6 + 3 + (place[:, 2] * 1.6 + 2.5) / 2)
    expected = np.pi * np.cos(phase) * recipe.bump
    np.testing.assert_allclose(rise[:, 0], expected, atol=0.02)
    np.testing.assert_allclose(rise[:, 2], expected / 2, atol=0.02)


# ---------------------------------------------------------------- variants
@pytest.fixture(scope="module")
def scenes():
    return {
        name: [clevrtex_like.sample_scene(1, index, name) for index in range(3)]
        for name in clevrtex_like.VARIANTS
    }


def test_scenes_follow_their_variant(scenes):
    seen, unseen = set(textures.RECIPES), set(textures.UNSEEN)
    for name, drawn in scenes.items():
        for scene in drawn:
            used = {o["material"] for o in scene["objects"]}
            ground = scene["ground_material"]
            shapes = {o["shape"] for o in scene["objects"]}
            assert 3 <= len(scene["objects"]) <= 10
            assert shapes <= set(clevrtex_like.VARIANTS[name].shapes)
            if name == "outd":
                assert used | {ground} <= unseen
                assert not shapes & set(clevrtex_like.VARIANTS["full"].shapes)
            elif name == "vbg":
                assert used <= {"rubber", "metal"}
                assert all(o["color"] for o in scene["objects"])
                assert ground in seen
            else:
                assert used <= seen
                assert not any(o["color"] for o in scene["objects"])
            if name == "camo":
                assert used == {ground}
    assert {s["ground_material"] for s in scenes["pbg"]} == {"plain"}
    assert {s["ground_material"] for s in scenes["grassbg"]} == {"meadow"}


def test_objects_keep_their_distance_and_are_visible(scenes):
    for drawn in scenes.values():
        scene = drawn[0]
        shown = np.bincount(clevrtex_like.label_map(scene).ravel())[1:]
        assert len(shown) == len(scene["objects"])
        assert shown.min() >= layout.MIN_VISIBLE
        sizes = clevrtex_like.VARIANTS[scene["variant"]].sizes
        for i, a in enumerate(scene["objects"]):
            shrunk = np.sqrt(2) if a["shape"] == "cube" else 1
            assert a["r"] == pytest.approx(sizes[a["size"]] / shrunk)
            for b in scene["objects"][:i]:
                assert np.hypot(a["x"] - b["x"], a["y"] - b["y"]) - a["r"] - b["r"] >= 0.25


# ---------------------------------------------------------------- pictures and records
def test_records_do_not_depend_on_their_batch():
    together = clevrtex_like.draw(0, [2, 0], 18, 24, SMALL, "outd")
    alone = clevrtex_like.draw(0, [0], 18, 24, SMALL, "outd")
    for name, values in alone.items():
        np.testing.assert_array_equal(together[name][1], values[0], err_msg=name)
    words = clevrtex_like.VOCABULARIES
    scene = clevrtex_like.sample_scene(0, 0, "outd")
    assert words["material"][alone["material"][0, 0]] == scene["ground_material"]
    for k, item in enumerate(scene["objects"], start=1):
        assert words["shape"][alone["shape"][0, k]] == item["shape"]
        assert words["material"][alone["material"][0, k]] == item["material"]


def test_picture_shows_its_materials(scenes):
    scene = scenes["vbg"][0] | {"ground_material": "plain"}
    images, labels = clevrtex_like.render_batch([scene], 18, 24, window=SMALL)
    np.testing.assert_array_equal(labels[0], clevrtex_like.label_map(scene, 18, 24, SMALL))
    ground = images[0][labels[0] == 0].astype(float)
    assert np.ptp(ground.mean(0)) < 12  # grey
    assert 60 < ground.mean() < 200
    red = [o | {"material": "rubber", "color": "red"} for o in scene["objects"]]
    images, _ = clevrtex_like.render_batch([scene | {"objects": red}], 18, 24, window=SMALL)
    inside = images[0][labels[0] > 0].astype(float).mean(0)
    assert inside[0] > 1.3 * inside[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clevrtex_like.sample_scene(0, 0, "hard"), "variant='hard'.*camo"),
        (lambda: clevrtex_like.sample_scene(-1, 0), "seed=-1"),
        (lambda: clevrtex_like.draw(0, [0], 18, 24, SMALL, "Full"), "variant='Full'"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(DatasetError, match=message):
        call()


def test_unknown_materials_are_refused(scenes):
    scene = scenes["full"][0] | {"ground_material": "jam"}
    with pytest.raises(DatasetError, match="material='jam'"):
        clevrtex_like.render(scene, 18, 24)
