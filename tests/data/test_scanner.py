import dataclasses
import math

import numpy as np
import pytest

from wisetune.data._depth import Room
from wisetune.data._surface import DENSE, Surface, densify
from wisetune.data.scanner import Scanner
from wisetune.errors import DataError, UsageError
from wisetune.runtime import generator

PERFECT = {"noise": 0.0, "step": 0.0, "dropout": 0.0, "drift": 0.0, "tilt": 0.0, "floor": 0.0, "wall": 0.0, "clutter": 0.0}
EMPTY = Room(np.zeros((0, 4)), np.zeros((0, 7)))


def sphere(count: int, seed: int = 0) -> np.ndarray:
    points = generator("sphere", seed).normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def box(count: int, size: tuple[float, float, float]) -> np.ndarray:
    random = generator("box")
    points = random.uniform(-0.5, 0.5, (count, 3)) * size
    axis = random.choice(3, count, p=(areas := np.prod(size) / np.array(size)) / areas.sum())
    points[np.arange(count), axis] = np.array(size)[axis] / 2 * random.choice([-1, 1], count)
    return points


def look(points: np.ndarray, eye: list[float], room: Room = EMPTY, **options: float) -> tuple[np.ndarray, np.ndarray]:
    """One image of an object of one metre, whose middle is the target."""
    surface = Surface.of(points, generator("surface"))
    camera = Scanner(**(PERFECT | options))
    target = np.array([0.0, 0.0, surface.half[2]])
    return camera.image(surface, np.array(eye, float), target, room, generator("look"))


@pytest.mark.parametrize(("count", "leak"), [(2048, 0.005), (60_000, 0.0005)])
def test_the_far_side_of_a_sphere_is_not_seen(count: int, leak: float) -> None:
    seen, own = look(sphere(count), [2.5, 0, 0.5])
    assert own.all()
    assert len(seen) > 1000
    # From 2.5 m the horizon of a sphere of radius 0.5 lies at x = 0.1; half a pixel of blur there is no leak.
    assert (seen[:, 0] < 0).mean() <= leak
    assert seen[:, 0].max() > 0.48


def test_what_is_seen_lies_on_the_surface() -> None:
    seen, _ = look(sphere(60_000), [2.5, 0, 0.5])
    radius = np.linalg.norm(seen - [0, 0, 0.5], axis=1)
    assert abs(np.median(radius) - 0.5) < 0.004
    assert np.abs(radius - 0.5).max() < 0.02


def test_an_object_hides_what_stands_behind_it() -> None:
    wall = Room(np.array([[-1.0, 0, 0, 1.0]]), np.zeros((0, 7)))  # x = -1
    seen, own = look(box(60_000, (0.2, 1, 1)), [2.5, 0, 0.5], wall)
    behind = seen[~own]
    np.testing.assert_allclose(behind[:, 0], -1, atol=1e-9)
    # The box's face at x = 0.1 casts its shadow on the wall, (2.5 + 1) / (2.5 - 0.1) times as large.
    shadow = 0.5 * 3.5 / 2.4
    assert not ((np.abs(behind[:, 1]) < shadow - 0.05) & (np.abs(behind[:, 2] - 0.5) < shadow - 0.05)).any()
    assert (np.abs(behind[:, 1]) < shadow + 0.1).any()
    assert (seen[own][:, 0] < 0).mean() < 0.001


def test_a_box_of_clutter_hides_the_object() -> None:
    clutter = Room(np.zeros((0, 4)), np.array([[1.0, 0, 0.5, 0.1, 2.0, 2.0, 0.3]]))
    _, own = look(sphere(20_000), [2.5, 0, 0.5], clutter)
    assert not own.any()


def test_the_floor_is_seen_where_it_is() -> None:
    floor = Room(np.array([[0.0, 0, 1, 0]]), np.zeros((0, 7)))
    seen, own = look(sphere(20_000), [2.5, 0, 1.6], floor)
    np.testing.assert_allclose(seen[~own][:, 2], 0, atol=1e-9)
    assert (~own).sum() > 1000


def test_noise_grows_with_the_square_of_distance() -> None:
    spread = []
    for distance in (1.5, 3.0):
        seen, _ = look(box(60_000, (0.02, 1, 1)), [distance, 0, 0.5], noise=0.004)
        middle = seen[(np.abs(seen[:, 1]) < 0.3) & (np.abs(seen[:, 2] - 0.5) < 0.3)]
        spread.append(middle[:, 0].std())
    assert spread[0] == pytest.approx(0.004 * 1.49**2, rel=0.15)
    assert spread[1] / spread[0] == pytest.approx((2.99 / 1.49) ** 2, rel=0.15)


def test_depth_comes_in_steps_of_disparity() -> None:
    seen, _ = look(sphere(60_000), [2.5, 0, 0.5], step=0.02)
    disparity = 1 / (2.5 - seen[:, 0])
    np.testing.assert_allclose(disparity / 0.02, np.round(disparity / 0.02), atol=1e-3)
    assert len(np.unique(np.round(disparity / 0.02))) < 20


def test_pixels_beside_a_jump_are_lost_and_only_those() -> None:
    plate = box(60_000, (0.02, 1, 1))
    whole, _ = look(plate, [2.5, 0, 0.5])
    cut, _ = look(plate, [2.5, 0, 0.5], dropout=1.0)
    kept = {tuple(point) for point in np.round(cut, 6)}
    lost = np.array([point for point in np.round(whole, 6) if tuple(point) not in kept])
    assert 0 < len(lost) < len(whole) / 5
    assert np.maximum(np.abs(lost[:, 1]), np.abs(lost[:, 2] - 0.5)).min() > 0.45


def test_densify_fills_without_growing() -> None:
    points = sphere(2048)
    filled = densify(points, DENSE, generator(0))
    assert filled.shape == (DENSE, 3)
    np.testing.assert_array_equal(filled[:2048], points)
    radius = np.linalg.norm(filled, axis=1)
    assert radius.max() <= 1 + 1e-9
    assert radius.min() > 0.97
    octants = np.bincount((filled > 0) @ [1, 2, 4], minlength=8)
    assert octants.min() > DENSE / 8 * 0.8


@pytest.mark.parametrize("setting", ["obj_only", "obj_bg", "pb_t50_rs"])
@pytest.mark.parametrize("count", [64, 1024, 5000])
def test_a_scan_has_the_points_asked_for(setting: str, count: int) -> None:
    scan = Scanner(setting=setting).scan(box(2048, (0.5, 0.5, 1)), generator(1), count)
    assert scan.shape == (count, 3)
    assert scan.dtype == np.float32
    assert np.isfinite(scan).all()
    if count <= 1024:
        assert len(np.unique(scan, axis=0)) == count


def test_a_scan_is_a_function_of_its_generator() -> None:
    points = box(2048, (0.5, 0.5, 1))
    scans = [Scanner().scan(points, generator(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(scans[0], scans[1])
    assert not np.array_equal(scans[0], scans[2])


def test_the_unit_and_place_of_the_input_do_not_matter() -> None:
    points = box(2048, (0.5, 0.5, 1))
    near = Scanner().scan(points, generator(0))
    far = Scanner().scan(points * 1000 + 5000, generator(0))
    # The steps of depth may fall to the other side for single points.
    assert (np.abs(near - far).max(1) < 1e-4).mean() > 0.99


def test_obj_only_keeps_the_object_and_obj_bg_its_surroundings() -> None:
    ball = sphere(8000)
    options = PERFECT | {"floor": 1.0, "size_low": 1.0, "size_high": 1.0, "turn": 0.0}
    alone = Scanner("obj_only", **options).scan(ball, generator(2))
    around = Scanner("obj_bg", **options).scan(ball, generator(2))
    # Crops are seen from the middle of the box, which is the middle of the ball.
    assert np.abs(np.linalg.norm(alone, axis=1) - 0.5).max() < 0.02
    floor = np.abs(around[:, 2] + 0.5) < 1e-6
    assert 0.05 < floor.mean() < 0.9
    assert np.abs(np.linalg.norm(around[~floor], axis=1) - 0.5).max() < 0.02
    assert np.abs(around).max() <= 0.5 + 0.02 + 1e-6


def test_pb_t50_rs_moves_turns_and_scales_the_box() -> None:
    ball = Surface.of(sphere(8000), generator("ball"))
    options = PERFECT | {"size_low": 1.0, "size_high": 1.0, "turn": 0.0}
    shifted = [Scanner("pb_t50_rs", scale=0.0, rotate=0.0, **options).scan(ball, generator(seed)) for seed in range(6)]
    # The middle of the ball moves by up to half a metre from the middle of the box.
    middles = []
    for scan in shifted:
        system = np.c_[2 * scan.astype(float), np.ones(len(scan))]
        middles.append(np.linalg.lstsq(system, (scan.astype(float) ** 2).sum(1), rcond=None)[0][:3])
    assert 0.25 < np.abs(middles).max() <= 0.52
    assert np.std(middles, axis=0).min() > 0.1
    plate = Surface.of(box(24_000, (0.02, 1, 1)), generator("plate"))
    scaled = [
        np.abs(Scanner("pb_t50_rs", shift=0.0, rotate=0.0, scale=0.4, **options).scan(plate, generator(seed))[:, 1]).max()
        for seed in range(8)
    ]
    assert 0.3 <= min(scaled) < 0.42
    assert 0.48 < max(scaled) <= 0.54
    rotated = [Scanner("pb_t50_rs", shift=0.0, scale=0.0, **options).scan(plate, generator(seed)) for seed in range(8)]
    # A box turned by 15 degrees about a plate 2 cm thick cuts it off where it leaves the box.
    assert min(np.abs(scan[:, 1]).max() for scan in rotated) < 0.25
    assert max(np.abs(scan[:, 1]).max() for scan in rotated) > 0.3


def test_the_object_turns_only_as_far_as_asked() -> None:
    plate = box(20_000, (0.05, 1, 1))
    still = Scanner("obj_only", turn=0.0, **PERFECT).scan(plate, generator(3))
    turned = [Scanner("obj_only", **PERFECT).scan(plate, generator(seed)) for seed in range(4)]
    thickness = [np.linalg.svd(scan[:, :2] - scan[:, :2].mean(0), full_matrices=False)[2][1] for scan in [still, *turned]]
    angles = [abs(math.degrees(math.atan2(normal[1], normal[0]))) % 180 for normal in thickness]
    assert min(angles[0], 180 - angles[0]) < 3
    assert np.ptp(angles[1:]) > 10


def test_scans_are_taken_again_until_they_show_the_object() -> None:
    camera = Scanner("obj_bg", floor=1.0, width=64, height=48)
    assert (np.abs(camera.scan(sphere(4000), generator(0))[:, 2]) > 0).any()
    with pytest.raises(DataError, match="showed too little of this object"):
        dataclasses.replace(camera, least=1.0).scan(sphere(4000), generator(0))


@pytest.mark.parametrize("points", [np.zeros((3, 3)), np.ones((100, 3)), np.full((100, 3), np.nan), np.r_[sphere(99), [[np.inf, 0, 0]]]])
def test_clouds_without_a_surface_are_refused(points: np.ndarray) -> None:
    with pytest.raises(DataError, match="a cloud to scan has"):
        Scanner().scan(points, generator(0))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"views": 0}, "option 'views' of 'scanner' is 0; it must be a whole number, at least 1"),
        ({"width": 7}, "'width' of 'scanner' is 7; it must be a whole number, at least 8"),
        ({"height": 7}, "'height' of 'scanner' is 7"),
        ({"fov": 0.0}, "'fov' of 'scanner' is 0.0; it must be a number, at least 1 and at most 150"),
        ({"fov": 151.0}, "'fov' of 'scanner' is 151.0"),
        ({"near": 3.0}, "'near' to 'far' are 3.0 to 1.8; they must be in order"),
        ({"size_low": 2.0}, "'size-low' to 'size-high' are 2.0 to 1.6"),
        ({"size_low": 0.0}, "'size-low' of 'scanner' is 0.0; it must be a number, above 0"),
        ({"eye_low": 2.0}, "'eye-low' to 'eye-high' are 2.0 to 1.7"),
        ({"eye_high": math.inf}, "'eye-high' of 'scanner' is inf"),
        ({"dropout": 1.5}, "'dropout' of 'scanner' is 1.5; it must be a number, at least 0 and at most 1"),
        ({"clutter": -0.1}, "'clutter' of 'scanner' is -0.1"),
        ({"noise": -1.0}, "'noise' of 'scanner' is -1.0; it must be a number, at least 0"),
        ({"noise": math.nan}, "'noise' of 'scanner' is nan"),
        ({"scale": 1.0}, "'scale' of 'scanner' is 1.0; it must be a number, at least 0 and below 1"),
    ],
)
def test_options_that_make_no_camera_are_refused(option: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Scanner(**option)


def test_a_scanner_is_spelled_like_every_spec() -> None:
    scanner = Scanner("obj_bg", near=1.5, views=3)
    assert str(scanner) == "scanner:setting=obj_bg,views=3,near=1.5"
    assert Scanner.from_options("obj_bg,views=3,near=1.5") == scanner


@pytest.mark.parametrize("seed", range(20))
def test_the_room_stands_around_the_object(seed: int) -> None:
    random = generator("room", seed)
    half, turn, azimuth = random.uniform(0.1, 0.8, 3), random.uniform(-math.pi, math.pi), random.uniform(0, 2 * math.pi)
    room = Room.furnish(half, turn, azimuth, 1.0, 1.0, 1.0, random)
    floor, wall = room.planes
    np.testing.assert_array_equal(floor, [0, 0, 1, 0])
    # Behind the object as the camera sees it, along one of its sides, close to it and not through it.
    assert wall[:2] @ [math.cos(azimuth), math.sin(azimuth)] <= -math.sqrt(0.5) + 1e-9
    axes = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    along = np.abs(axes @ wall[:2])
    assert sorted(along) == pytest.approx([0, 1], abs=1e-9)
    assert 0 <= wall[3] - half[int(along.argmax())] <= 0.25
    assert len(room.boxes) == 3
    for x, y, z, wide, deep, tall, own_turn in room.boxes:
        assert z == tall
        grid = np.stack(np.meshgrid(np.linspace(-wide, wide, 21), np.linspace(-deep, deep, 21)), -1).reshape(-1, 2)
        cos, sin = math.cos(own_turn), math.sin(own_turn)
        inside = (np.abs((grid @ np.array([[cos, sin], [-sin, cos]]) + [x, y]) @ axes.T) < half[:2] - 1e-9).all(1)
        assert not inside.any()
    assert len(Room.furnish(half, turn, azimuth, 0.0, 0.0, 0.0, random).planes) == 0


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="can be obj_only, obj_bg, pb_t50_rs"):
        Scanner.from_options("pb")
    with pytest.raises((UsageError, TypeError), match="pb"):  # a TypeError where types are checked
        Scanner("pb")


@pytest.mark.parametrize(("error", "size"), [("drift", 0.03), ("tilt", 4.0)])
def test_views_are_put_together_with_an_error(error: str, size: float) -> None:
    cube = Surface.of(box(24_000, (1, 1, 1)), generator("cube"))
    camera = Scanner("obj_bg", views=4, **(PERFECT | {"turn": 0.0, "size_low": 1.0, "size_high": 1.0}))
    off = dataclasses.replace(camera, **{error: size})
    # How far points lie from the faces of the cube; the crop lets them lie two centimetres outside.
    exact, wrong = ([np.median(np.abs(np.abs(one.scan(cube, generator(seed))).max(1) - 0.5)) for seed in range(4)] for one in (camera, off))
    assert max(exact) < 0.004
    assert np.median(wrong) > 2 * max(exact)
