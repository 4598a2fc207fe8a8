"""CLEVR's ray caster against Blender's pictures, its scene law, its promises of determinism."""

import collections
import copy
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from datasets.errors import DatasetError
from datasets.scenes import clevr, clevr_materials, layout, sampling, studio, textured_solids
from datasets.scenes.ray_casting import CUBE, CYLINDER, FAR, Vec
from datasets.scenes.sampling import Window

BLENDER = Path(__file__).parents[2] / "fixtures" / "clevr_blender"
SCENES = json.loads((BLENDER / "scenes.json").read_text())
SMALL = Window(48, 64, 192, 256)
BETWEEN = jax.jit(studio._between, static_argnums=1)
RIG = {"camera": list(studio.CAMERA), "lights": {k: v.position for k, v in studio.LIGHTS.items()}}
BALL = {
    "x": 0.4, "y": -0.3, "size": "large", "shape": "sphere", "color": "red", "material": "rubber",
    "rotation": 30.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(ours, Blender's, labels) of the four scenes, pictures as float."""
    images, labels = clevr.render_batch(SCENES)
    blender = [
        np.asarray(Image.open(path).convert("RGB"), float)
        for path in sorted(BLENDER.glob("scene_*.png"))
    ]
    return list(zip(images.astype(float), blender, labels, strict=True))


@pytest.mark.parametrize(("index", "reached"), list(enumerate([40.7, 42.7, 40.3, 40.5])))
def test_picture_matches_blender(drawn, index, reached):
    ours, blender, _ = drawn[index]
    psnr = 10 * np.log10(255**2 / np.mean((ours - blender) ** 2))
    assert psnr > reached - 0.4


@pytest.mark.parametrize("index", range(4))
def test_silhouettes_have_no_dark_hairline(drawn, index):
    ours, blender, labels = drawn[index]
    edge = np.zeros(labels.shape, bool)
    edge[1:-1, 1:-1] = (labels[1:-1, 1:-1] > 0) & (
        (labels[:-2, 1:-1] == 0) | (labels[1:-1, :-2] == 0) | (labels[1:-1, 2:] == 0)
    )
    assert abs((ours - blender)[edge].mean()) < 3


def test_metal_is_not_grainy(drawn):
    ours, _, labels = drawn[2]
    (metal,) = [k + 1 for k, o in enumerate(SCENES[2]["objects"]) if o["color"] == "gray"]

    def grain(image):  # median, so that highlights do not count
        grey = image.mean(-1)
        detail = grey[1:-1, 1:-1] - (grey[:-2, 1:-1] + grey[2:, 1:-1]) / 2
        return np.median(np.abs(detail[labels[1:-1, 1:-1] == metal]))

    assert grain(ours) < 1.25  # of 255


def test_floor_receives_what_cycles_measured():
    # Direct irradiance / pi on the empty floor at a point near the origin, a 128-sample render.
    scene = jax.tree.map(jnp.asarray, clevr.pack({**RIG, "objects": []}))
    point = Vec(*(jnp.full(1, c) for c in (0.2883, -0.0838, 0.0048)))
    up = studio.sweep_normal(point)
    total = np.zeros(3)
    for light in range(studio.NUM_LIGHTS):
        middle = (jnp.full(1, 0.5), jnp.full(1, 0.5))
        e = studio.sample_light(scene, (CUBE,), light, point, up, -1, middle).irradiance
        total += np.array([e.x[0], e.y[0], e.z[0]]) / np.pi
    np.testing.assert_allclose(total, [0.2899, 0.2866, 0.2827], rtol=0.005)


def test_sphere_has_its_analytic_silhouette():
    scene = {**RIG, "objects": [BALL]}
    labels = clevr.label_map(scene, 30, 40)
    right, up, forward = studio.look_at_origin(np.asarray(studio.CAMERA))
    a = ((np.arange(40) + 0.5) / 20 - 1) * 16 / 35
    b = (1 - (np.arange(30) + 0.5) / 15) * 12 / 35
    rays = forward + a[None, :, None] * right + b[:, None, None] * up
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    centre = np.array([BALL["x"], BALL["y"], 0.7]) - studio.CAMERA
    nearest = np.linalg.norm(centre - (rays @ centre)[..., None] * rays, axis=-1)
    np.testing.assert_array_equal(labels, nearest < 0.7)


def test_nearer_object_hides_the_farther():
    towards = np.asarray(studio.CAMERA[:2]) / np.linalg.norm(studio.CAMERA[:2])
    front = {**BALL, "x": 2 * towards[0], "y": 2 * towards[1], "shape": "cube"}
    for objects in ([BALL, front], [front, BALL]):
        labels = clevr.label_map({**RIG, "objects": objects}, 30, 40)
        alone = clevr.label_map({**RIG, "objects": [front]}, 30, 40)
        np.testing.assert_array_equal(labels == objects.index(front) + 1, alone == 1)


def test_tiles_find_what_every_ray_meets():
    scene = jax.tree.map(jnp.asarray, clevr.pack(SCENES[1]))
    solids = clevr_materials.SOLIDS
    columns, rows = jnp.arange(0.5, 320, 4), jnp.arange(0.5, 240, 4)
    origin, direction = studio.camera_rays(scene, *sampling.everywhere(columns, rows))
    nearest = np.stack(
        [
            solids[scene.kind[k]].enter(*studio.to_unit_frame(scene, k, origin, direction))
            for k in range(scene.count)
        ]
    )
    distance, index = jax.jit(studio.trace_view, static_argnums=1)(scene, solids, columns, rows)
    expected = np.where(nearest.min(0) < FAR, nearest.argmin(0), -1)
    assert (index != expected).mean() < 1e-3  # rounding at silhouettes
    np.testing.assert_allclose(distance, nearest.min(0), rtol=1e-3)


@jax.jit
def shadowed(scene, point, offset, among):
    """Where an object stands between a point and the light at an offset from it."""
    limit = jnp.sqrt(offset.dot(offset))
    rays = (point, offset * (1 / limit), limit)
    return studio.blocked(scene, clevr_materials.SOLIDS, *rays, -1, among)


@pytest.mark.parametrize("light", range(studio.NUM_LIGHTS))
def test_objects_left_out_cast_no_shadow(light):
    scene = jax.tree.map(jnp.asarray, clevr.pack(SCENES[1]))
    everything = jnp.arange(studio.MAX_OBJECTS), scene.count
    rng = np.random.default_rng(light)
    shadows, counts = [], []
    for corner in rng.uniform(-4, 3, (20, 2)):
        place = np.concatenate([corner + rng.uniform(0, 1, (500, 2)), np.zeros((500, 1))], axis=1)
        point = Vec.of(jnp.asarray(place, jnp.float32))
        offset = Vec.of(scene.light_position[light]) - point
        few = BETWEEN(scene, clevr_materials.SOLIDS, point, light)
        shadows.append(np.asarray(shadowed(scene, point, offset, everything)))
        np.testing.assert_array_equal(shadowed(scene, point, offset, few), shadows[-1])
        counts.append(int(few[1]))
    assert 0.05 < np.mean(shadows) < 0.95
    assert np.mean(counts) < 0.7 * scene.count


@pytest.mark.parametrize("solid", [CUBE, CYLINDER], ids=["cube", "cylinder"])
def test_rounded_solids_meet_rays_on_their_surface(solid):
    rng = np.random.default_rng(0)
    origins = rng.normal(size=(4000, 3))
    origins *= 4 / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = rng.uniform(-1.1, 1.1, origins.shape) - origins
    origin, direction = (Vec.of(jnp.asarray(v, jnp.float32)) for v in (origins, directions))
    t = np.asarray(jax.jit(solid.enter)(origin, direction))
    hit = t < FAR
    point = (origins + directions * t[:, None])[hit]
    if solid is CUBE:
        gauge = (np.maximum(np.abs(point) - 0.75, 0) ** 3).sum(-1) / 0.25**3
    else:
        axial = np.stack([np.hypot(point[:, 0], point[:, 1]), np.abs(point[:, 2])], -1)
        gauge = (np.maximum(axial - 0.9, 0) ** 4).sum(-1) / 0.1**4
    assert 0.5 < hit.mean() < 1
    assert np.abs(gauge - 1).max() < 0.051
    normal = jax.jit(solid.normal)(Vec.of(jnp.asarray(point, jnp.float32)))
    facing = normal.dot(Vec.of(jnp.asarray(directions[hit], jnp.float32)))
    assert np.quantile(np.asarray(facing), 0.999) < 0
    shadow = np.asarray(jax.jit(solid.blocks)(origin, direction, FAR))
    assert shadow[hit].all()
    assert (shadow != hit).mean() < 0.03


@pytest.mark.parametrize("solid", textured_solids.SOLIDS.values(), ids=textured_solids.SOLIDS)
def test_solids_and_their_hulls_lie_in_their_ball(solid):
    rng = np.random.default_rng(2)
    directions = rng.normal(size=(4000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    aside = np.cross(directions, rng.normal(size=(4000, 3)))
    aside *= rng.uniform(0.6, 1.3, (4000, 1)) / np.linalg.norm(aside, axis=1, keepdims=True)
    origin = Vec.of(jnp.asarray(solid.ball * aside - 4 * directions, jnp.float32))
    direction = Vec.of(jnp.asarray(directions, jnp.float32))
    past = np.linalg.norm(aside, axis=1) > 1
    assert 0.3 < past.mean() < 0.6
    for find in (solid.enter, solid.intersect_hull):
        assert (np.asarray(find(origin, direction))[past] == FAR).all()
    stopped = np.asarray(solid.blocks(origin, direction, FAR))
    assert not stopped[past].any()
    assert stopped[~past].any()
    # Rays through its core meet it; sphere tracing loses one in a thousand.
    through = Vec.of(jnp.asarray(0.99 * solid.core * aside / 1.3 - 4 * directions, jnp.float32))
    met = np.asarray(solid.enter(through, direction)) < FAR
    assert solid.core == 0 or met.mean() > 0.998


def test_floor_under_a_rounded_edge_is_in_shadow():
    up, under = Vec.of(jnp.array([0.0, 0.0, 1.0])), Vec.of(jnp.array([0.985, 0.0, -0.99]))
    assert CUBE.blocks(under, up, FAR)
    rim = Vec.of(jnp.array([0.99, 0.0, -0.99]))
    assert not CYLINDER.blocks(rim, Vec.of(jnp.array([1.0, 0.0, 0.1])), FAR)


# ---------------------------------------------------------------- the scene law
@pytest.fixture(scope="module")
def scenes():
    return [clevr.sample_scene(7, index) for index in range(12)]


def test_objects_keep_their_distance_and_margins(scenes):
    for scene in scenes:
        directions = layout.floor_directions(scene["camera"])
        for i, a in enumerate(scene["objects"]):
            assert max(abs(a["x"]), abs(a["y"])) <= 3
            assert a["r"] == {"large": 0.7, "small": 0.35}[a["size"]]
            for b in scene["objects"][:i]:
                offset = np.array([a["x"] - b["x"], a["y"] - b["y"]])
                assert np.hypot(*offset) - a["r"] - b["r"] >= 0.25
                assert np.abs(directions @ offset).min() >= 0.4


def test_every_object_shows_200_pixels(scenes):
    for scene in scenes:
        shown = np.bincount(clevr.label_map(scene).ravel())[1:]
        assert len(shown) == len(scene["objects"])
        assert shown.min() >= 200


def test_camera_and_lights_are_shaken_within_bounds(scenes):
    for scene in scenes:
        assert np.abs(np.subtract(scene["camera"], studio.CAMERA)).max() <= 0.5
        for name, light in studio.LIGHTS.items():
            assert np.abs(np.subtract(scene["lights"][name], light.position)).max() <= 1.0
    assert len({tuple(scene["camera"]) for scene in scenes}) == len(scenes)


@pytest.fixture
def all_visible(monkeypatch):
    monkeypatch.setattr(clevr, "every_object_shows", lambda scene: True)


@pytest.mark.usefixtures("all_visible")
def test_counts_and_looks_are_uniform():
    objects = [clevr.sample_scene(3, index)["objects"] for index in range(800)]
    counts = collections.Counter(map(len, objects))
    assert sorted(counts) == list(range(3, 11))
    assert all(65 <= n <= 140 for n in counts.values())  # 100 expected, sigma 9
    everything = [o for scene in objects for o in scene]
    for field, words in (("shape", 3), ("color", 8), ("material", 2)):
        shares = collections.Counter(o[field] for o in everything)
        assert len(shares) == words
        assert max(shares.values()) < 1.15 * len(everything) / words


def test_restarts_keep_the_number_of_objects(monkeypatch):
    tried = []

    def hidden_twice(scene):
        tried.append(scene["objects"])
        return len(tried) > 2

    monkeypatch.setattr(clevr, "every_object_shows", hidden_twice)
    scene = clevr.sample_scene(0, 5)
    assert len(tried) == 3
    assert {len(objects) for objects in tried} == {len(scene["objects"])}
    assert tried[0] != tried[2]


# ---------------------------------------------------------------- records
def test_records_do_not_depend_on_their_batch():
    together = clevr.draw(0, [3, 1, 2], 18, 24, SMALL)
    alone = clevr.draw(0, [1], 18, 24, SMALL)
    for name, values in alone.items():
        np.testing.assert_array_equal(together[name][1], values[0], err_msg=name)
    assert not np.array_equal(together["image"][0], together["image"][1])


def test_seed_moves_only_the_noise():
    images, labels = clevr.render_batch(SCENES[:1] * 3, 18, 24, window=SMALL, seeds=[0, 1, 0])
    np.testing.assert_array_equal(labels[0], labels[1])
    assert 0 < np.abs(images[0].astype(int) - images[1]).mean() < 3
    np.testing.assert_array_equal(images[0], images[2])


def test_labels_of_a_picture_are_its_label_map(drawn):
    for scene, (_, _, labels) in zip(SCENES, drawn, strict=True):
        np.testing.assert_array_equal(labels, clevr.label_map(scene))


def test_window_shows_the_same_pixels():
    full = clevr.label_map(SCENES[1], 30, 40)
    part = clevr.label_map(SCENES[1], 18, 24, SMALL)
    np.testing.assert_array_equal(part, full[6:24, 8:32])


def test_attributes_tell_what_was_drawn(scenes):
    fields = clevr.attributes(scenes)
    for i, scene in enumerate(scenes):
        count = len(scene["objects"])
        assert fields["visibility"][i].sum() == 1 + count
        for name, words in clevr.VOCABULARIES.items():
            codes = fields[name][i]
            assert [words[c] for c in codes[1 : 1 + count]] == [o[name] for o in scene["objects"]]
            assert not codes[0]
            assert not codes[1 + count :].any()
    record = clevr.draw(7, [0], 18, 24, SMALL)
    np.testing.assert_array_equal(record["shape"][0], fields["shape"][0])
    assert record["num_objects"][0] == len(scenes[0]["objects"])


def test_pixel_coordinates_point_at_the_object():
    column, row, depth = layout.project(np.asarray(studio.CAMERA), np.zeros((1, 3)))[0]
    assert (column, row) == (160, 120)
    assert depth == pytest.approx(np.linalg.norm(studio.CAMERA))
    rows, columns = np.nonzero(clevr.label_map({**RIG, "objects": [BALL]}, 30, 40))
    column, row, _ = layout.project(studio.CAMERA, np.array([[BALL["x"], BALL["y"], 0.7]]))[0]
    assert abs(columns.mean() + 0.5 - column / 8) < 0.5
    assert abs(rows.mean() + 0.5 - row / 8) < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["objects"][0].update(color="pink"), "color='pink'.*gray"),
        (lambda s: s["objects"][0].update(shape="cone"), "shape='cone'"),
        (lambda s: s["objects"].extend(s["objects"]), "objects=18.*at most 10"),
        (lambda s: s["objects"][0].pop("rotation"), "'rotation'.*missing"),
        (lambda s: s["lights"].pop("Lamp_Key"), "'Lamp_Key'.*missing"),
        (lambda s: s.pop("camera"), "'camera'.*missing"),
    ],
)
def test_wrong_scenes_are_refused_in_one_line(change, message):
    scene = copy.deepcopy(SCENES[0])
    change(scene)
    with pytest.raises(DatasetError, match=message):
        clevr.render(scene)


def test_wrong_arguments_are_refused():
    with pytest.raises(DatasetError, match="size=0x40"):
        clevr.render(SCENES[0], height=0, width=40)
    with pytest.raises(DatasetError, match="index=-1"):
        clevr.sample_scene(0, -1)


def test_accelerators_draw_the_same_pictures_side_by_side(monkeypatch):
    images, labels = clevr.render_batch(SCENES[:2], 18, 24, window=SMALL)
    clevr._draw_scenes.clear_cache()  # so that the backend is asked again
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    others = clevr.render_batch(SCENES[:2], 18, 24, window=SMALL)
    clevr._draw_scenes.clear_cache()
    np.testing.assert_array_equal(others[1], labels)
    assert np.abs(others[0].astype(int) - images).max() <= 2
