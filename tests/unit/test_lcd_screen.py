"""The screen, against Pillow and against what can be counted by hand."""

import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageDraw
from refusals import refused

from wmplay.contracts import provenance_of
from wmplay.envs import make_env
from wmplay.envs.lcd import WORLDS, Circle, LcdEnv, LcdVectorEnv, Object, Polygon, Static, World, box
from wmplay.envs.lcd.screen import Screen
from wmplay.errors import UnknownName
from wmplay.store.provenance import same_world


def drawn_by_pillow(world, pose, shape):
    """As the original testbed drew: Pillow cuts corners down to whole pixels; the picture is then flipped."""
    scale = world.lcd_height / world.height
    image = Image.new("1", (world.lcd_width, world.lcd_height))
    draw = ImageDraw.Draw(image)
    moving = [(form[i], place) for form, i, place in zip(world.shapes, shape, pose, strict=True)]
    fixed = [(each.shape, (*each.position, each.angle)) for each in (*world.statics, *world.occluders)]
    left = 0 if world.walls else pose[len(world.objects), 0] - world.width / 2
    for form, (x, y, angle) in (*moving, *fixed):
        x = x - left
        if isinstance(form, Circle):
            r = form.radius
            draw.ellipse([(x - r) * scale, (y - r) * scale, (x + r) * scale, (y + r) * scale], fill=1)
            continue
        cos, sin = np.cos(angle), np.sin(angle)
        corners = [
            ((x + cos * vx - sin * vy) * scale, (y + sin * vx + cos * vy) * scale) for vx, vy in form.vertices
        ]
        draw.polygon(corners, fill=1)
    return np.asarray(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)).astype(np.uint8)


def against_pillow(name, screen):
    """Frames [K, H, W] of 7 x 40 random steps, and what Pillow draws of the same poses."""
    env = LcdVectorEnv(7, world=name, physics="fast", screen=screen)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    frames, pillow = [], []
    for _ in range(40):
        frames.extend(env.step(rng.uniform(-1, 1, env.action_space.shape))[0]["lcd"])
        poses = zip(env._batch.pose, env._batch.shape, strict=True)
        pillow.extend(drawn_by_pillow(env.world, pose, shape) for pose, shape in poses)
    return np.array(frames), np.array(pillow)


@pytest.mark.parametrize("name", WORLDS)
def test_screen_is_pillows_rounded_outwards(name):
    frames, pillow = against_pillow(name, "outwards")
    assert (frames == pillow).mean() >= 0.98
    assert (pillow > frames).sum() <= 0.02 * pillow.sum(), "almost all that Pillow lights is lit"


@pytest.mark.parametrize("name", WORLDS)
def test_the_original_screen_is_pillows(name):
    frames, pillow = against_pillow(name, "original")
    assert frames.sum() == pytest.approx(pillow.sum(), rel=0.01)
    assert (frames != pillow).sum() <= 0.01 * pillow.sum(), "any Pillow since 9"


def test_original_and_outwards_are_told_apart():
    with refused(UnknownName, got="originl", advice="original"):
        LcdEnv("luxo", screen="originl")
    one, other = (provenance_of(make_env("luxo", screen=screen)) for screen in ("original", "outwards"))
    assert not same_world(one, other)
    before = {key: value for key, value in other.items() if key != "screen"}
    assert same_world(before, one), "what was recorded before there was a choice is not refused"


def screen_of(world, *poses):
    pose = np.array(poses, float)
    return Screen(world).draw(pose[None], np.zeros((1, len(world.bodies)), int))[0]


def one(shape, **world):
    return World(width=5, height=5, objects=(Object("a", (shape,)),), **world)


def test_a_box_lights_its_pixels():
    screen = screen_of(one(box(0.5, 0.5), lcd_height=20), (1.0, 2.0, 0.0))  # 4 pixels per metre
    rows, columns = np.nonzero(screen)
    assert (columns.min(), columns.max()) == (2, 6)  # 0.5 m .. 1.5 m
    assert (rows.min(), rows.max()) == (19 - 10, 19 - 6)  # 1.5 m .. 2.5 m, and y goes up
    assert screen.sum() == 25


def test_screens_are_zeros_and_ones():
    screen = screen_of(one(Circle(0.5)), (2.5, 2.5, 0))
    assert screen.dtype == np.uint8
    assert set(np.unique(screen)) == {0, 1}


def test_what_is_outside_is_not_drawn():
    for x, y in ((-3, 2), (9, 2), (2, -3), (2, 9)):
        for shape in (Circle(0.5), box(0.5, 0.5)):
            assert screen_of(one(shape), (x, y, 0.3)).sum() == 0
    assert 0 < screen_of(one(box(0.5, 0.5)), (0, 2, 0)).sum() < screen_of(one(box(0.5, 0.5)), (2, 2, 0)).sum()


@pytest.mark.parametrize("width", [3, 15, 31, 64, 65, 130])
def test_any_width_of_screen(width):
    world = World(width=width / 4, height=4, lcd_height=16, objects=(Object("a", (box(0.25, 0.25),)),))
    for x in np.arange(0.5, world.width - 0.25, 1.0):
        columns = np.nonzero(screen_of(world, (x, 2, 0)).any(0))[0]
        assert screen_of(world, (x, 2, 0)).shape == (16, width)
        assert (columns.min(), columns.max()) == (4 * (x - 0.25), min(4 * (x + 0.25), width - 1))


def test_shapes_by_chance_are_drawn_as_they_are():
    world = WORLDS["object2"]
    pose = np.array([[[1.0, 1.0, 0.0], [3.5, 3.5, 0.0]]] * 2)
    screens = Screen(world).draw(pose, np.array([[0, 1], [1, 0]]))
    disc, square = drawn_by_pillow(world, pose[0], (0, 1)), drawn_by_pillow(world, pose[1], (1, 0))
    np.testing.assert_array_equal(screens, [disc, square])


def test_statics_are_drawn():
    ramp = Static(Polygon(((0, 0), (5, 0), (0, 2.5))))
    bare, ramped = one(Circle(0.3)), one(Circle(0.3), statics=(ramp,))
    ball = (4, 4, 0)
    added = screen_of(ramped, ball) - screen_of(bare, ball)
    assert (added >= 0).all()
    per_row = added.sum(1)
    assert per_row[-1] >= 15
    assert (np.diff(per_row) >= 0).all(), "wider towards the floor"


def test_the_view_follows_the_first_robot_where_there_are_no_walls():
    world = dataclasses.replace(WORLDS["luxo"], walls=False)
    env = LcdEnv(world)
    observation, _ = env.reset(seed=0)
    state = env.state
    state[:, 0] += 37.0
    far, _ = env.reset(seed=0, options={"state": state})
    np.testing.assert_array_equal(far["lcd"], observation["lcd"])
    assert far["proprio"][0] == pytest.approx(observation["proprio"][0] + 2 * 37 / 10, abs=1e-4)
    assert env.observation_space.contains(far)


def test_drawing_many_is_drawing_each():
    env = LcdVectorEnv(11, world="urchin_balls")
    env.reset(seed=3)
    batch = env._batch
    together = batch.screen.draw(batch.pose, batch.shape)
    for i in range(11):
        alone = batch.screen.draw(batch.pose[i : i + 1], batch.shape[i : i + 1])
        np.testing.assert_array_equal(alone[0], together[i])
