"""Worlds as data: what is built in, what a user may describe, and what is refused in one line."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from refusals import refused

from wmplay.envs.lcd import (
    ROBOTS,
    WORLDS,
    Body,
    Circle,
    Joint,
    LcdEnv,
    Object,
    Occluder,
    Polygon,
    Robot,
    World,
    box,
)
from wmplay.envs.lcd.worlds.parse import find_world
from wmplay.errors import ConfigError, UnknownName, WmplayError

# name: (lcd, steps, actions, proprio); from the published description of the worlds
FACTS = {
    "dropbox": ((16, 16), 25, 1, 1),
    "bounce": ((16, 16), 50, 1, 1),
    "bounce2": ((16, 16), 50, 1, 1),
    "object2": ((16, 16), 50, 1, 1),
    "object3": ((16, 16), 50, 1, 1),
    "crab": ((32, 64), 100, 12, 68),
    "crab_cube": ((32, 64), 100, 12, 68),
    "spider_cube": ((32, 64), 100, 8, 36),
    **{f"{robot}": ((16, 32), 100, 3, 16) for robot in ("urchin", "luxo")},
    **{f"{robot}_{one}": ((16, 24), 150, 3, 16) for robot in ("urchin", "luxo") for one in ("cube", "ball")},
    **{
        f"{robot}_{many}": ((16, 32), 100, 3, 16)
        for robot in ("urchin", "luxo")
        for many in ("cubes", "balls")
    },
}


def test_all_worlds_are_there():
    ours = {"behind", "hidden_floor", "ramp", "walls", "luxo_ramps", "luxo_hall"}
    assert WORLDS.keys() == FACTS.keys() | ours


@pytest.mark.parametrize("name", FACTS)
def test_sizes_and_clocks_are_the_published_ones(name):
    lcd, steps, actions, proprio = FACTS[name]
    env = LcdEnv(name)
    assert env.observation_space["lcd"].shape == lcd
    assert env.observation_space["proprio"].shape == (proprio,)
    assert env.action_space.shape == (actions,)
    assert env.max_steps == steps
    world = WORLDS[name]
    assert (world.height, world.fps, world.gravity) == (5, 10, (0, -9.81))
    assert world.width == 5 * lcd[1] / lcd[0], "the exact width, 7.5 and not 7"


def test_published_materials():
    (box_,) = WORLDS["dropbox"].objects
    assert (box_.density, box_.friction, box_.restitution) == (0.1, 0.5, 0.0)
    assert box_.shapes == (box(0.7, 0.7),)
    cube, ball = WORLDS["luxo_cube"].objects[0], WORLDS["luxo_ball"].objects[0]
    assert (cube.density, cube.linear_damping, cube.angular_damping) == (0.5, 1.0, 0.2)
    assert (ball.shapes, ball.density, ball.restitution) == ((Circle(0.5),), 0.2, 0.8)
    luxo = ROBOTS["luxo"]()
    assert [joint.limits for joint in luxo.joints] == [(-0.1, 0.1), (-0.9, 0.9), (-0.5, 0.9)]
    assert {(joint.speed, joint.torque) for joint in luxo.joints} == {(8.0, 150.0)}
    assert (luxo.root.density, {part.friction for part in luxo.parts}) == (0.1, {1.0})


DESCRIBED = {
    "width": 7,
    "gravity": [0, -3],
    "statics": [{"polygon": [[0, 0], [3, 0], [0, 1.5]], "color": "#112233"}],
    "objects": [
        {"name": "ball", "circle": 0.4, "restitution": 0.8},
        {"name": "surprise", "shapes": [{"circle": 0.3}, {"box": [0.3, 0.2]}], "x": [5, 6]},
    ],
    "robots": [
        {
            "name": "lever",
            "margin": 1,
            "root": {"box": [0.3, 0.1]},
            "parts": [{"name": "arm", "box": [0.1, 0.5], "density": 0.5}],
            "joints": [{"parent": "root", "child": "arm", "child_anchor": [0, -0.5], "limits": [-1, 1]}],
        },
        "luxo",
    ],
}


def in_python():
    lever = Robot(
        "lever",
        Body("root", box(0.3, 0.1)),
        (Body("arm", box(0.1, 0.5), density=0.5),),
        (Joint("root", "arm", child_anchor=(0, -0.5), limits=(-1, 1)),),
        margin=1,
    )
    from wmplay.envs.lcd import Static

    return World(
        width=7,
        gravity=(0, -3),
        statics=(Static(Polygon(((0, 0), (3, 0), (0, 1.5))), color="#112233"),),
        objects=(
            Object("ball", (Circle(0.4),), restitution=0.8),
            Object("surprise", (Circle(0.3), box(0.3, 0.2)), x=(5, 6)),
        ),
        robots=(lever, ROBOTS["luxo"]()),
    )


def test_yaml_mapping_and_python_describe_the_same_world(tmp_path):
    import yaml

    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(DESCRIBED))
    assert find_world(DESCRIBED) == find_world(str(file)) == in_python()


def test_a_described_world_runs_like_any_other():
    env = LcdEnv(DESCRIBED, full_state=True)
    observation, _ = env.reset(seed=0)
    assert observation["lcd"].shape == (16, 22)  # 16 x 7 / 5
    assert observation["full_state"].shape == (4 * 8,)  # two objects, two bodies of the lever, four of luxo
    assert env.action_space.shape == (4,)
    for _ in range(5):
        observation, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)


def test_base_changes_only_what_is_said():
    moon = find_world({"base": "luxo", "gravity": [0, -1.62]})
    assert moon == dataclasses.replace(WORLDS["luxo"], gravity=(0, -1.62))


LEVER = DESCRIBED["robots"][0]
BAD = [
    ({**DESCRIBED, "gravty": [0, 0]}, UnknownName, {"got": "gravty", "advice": "gravity"}),
    ({**DESCRIBED, "width": "wide"}, ConfigError, {"about": "world.width", "got": "wide"}),
    ({**DESCRIBED, "width": -1}, ConfigError, {"about": "width", "got": -1.0}),
    ({"width": 5}, ConfigError, {"about": "empty", "advice": ("object", "robot")}),
    ({**DESCRIBED, "robots": ["luxor"]}, UnknownName, {"about": "robot", "got": "luxor", "advice": "luxo"}),
    ({"base": "lux"}, UnknownName, {"about": "base", "got": "lux", "advice": "luxo"}),
    ({"objects": [3]}, ConfigError, {"about": "world.objects[0]", "got": 3, "expected": "mapping"}),
    ({"objects": "ball"}, ConfigError, {"about": "world.objects", "got": "ball", "expected": "list"}),
    ({"objects": [{"circle": 1}]}, ConfigError, {"about": ("world.objects[0]", "'name'")}),
    ({"objects": [{"name": "a"}]}, ConfigError, {"about": ("world.objects[0]", "circle, box, polygon")}),
    (
        {"objects": [{"name": "a", "circle": 1, "box": [1, 1]}]},
        ConfigError,
        {"about": "world.objects[0]", "advice": "'shapes'"},
    ),
    ({"objects": [{"name": "a", "circle": -1}]}, ConfigError, {"about": "circle radius", "got": -1.0}),
    (
        {"objects": [{"name": "a", "box": 1}]},
        ConfigError,
        {"about": "world.objects[0].box", "got": 1, "expected": "[1, 0.5]"},
    ),
    (
        {"objects": [{"name": "a", "shapes": [{"ring": 1}]}]},
        ConfigError,
        {"about": "world.objects[0].shapes[0]", "got": {"ring": 1}, "expected": "circle, box, polygon"},
    ),
    (
        {"objects": [{"name": "a", "polygon": [[0, 0], [2, 0], [0.1, 0.1], [0, 2]]}]},
        ConfigError,
        {"about": "convex"},
    ),
    (
        {"objects": [{"name": "a", "polygon": [[0, 0], [2, 0]]}]},
        ConfigError,
        {"got": 2, "expected": "3 to 8"},
    ),
    (
        {"objects": [{"name": "a", "circle": 1, "density": 0}]},
        ConfigError,
        {"about": ("'a'", "density"), "got": 0.0},
    ),
    (
        {"objects": [{"name": "a", "circle": 1, "friction": -1}]},
        ConfigError,
        {"about": ("'a'", "friction"), "got": -1.0},
    ),
    (
        {"objects": [{"name": "a", "circle": 1, "color": "red"}]},
        ConfigError,
        {"about": ("'a'", "color"), "got": "red"},
    ),
    ({"objects": [{"name": "a", "circle": 3}]}, ConfigError, {"about": ("'a'", "3.0", "10.0 x 5.0")}),
    (
        {"objects": [{"name": "a", "circle": 1}, {"name": "a", "circle": 1}]},
        ConfigError,
        {"about": ("objects", "robots"), "got": "a", "advice": "name"},
    ),
    (
        {"robots": [{**LEVER, "joints": [{"parent": "root", "child": "leg"}]}]},
        UnknownName,
        {"about": "lever", "got": "leg", "advice": "arm"},
    ),
    ({"robots": [{**LEVER, "joints": []}]}, ConfigError, {"about": ("part 'arm'", "lever", "joint")}),
    (
        {"robots": [{**LEVER, "joints": [{"parent": "arm", "child": "arm"}]}]},
        ConfigError,
        {"about": ("'arm' -> 'arm'", "lever")},
    ),
    (
        {"robots": [{**LEVER, "joints": [{"parent": "root", "child": "arm", "limits": [1, -1]}]}]},
        ConfigError,
        {"about": ("arm", "limits"), "got": (1.0, -1.0)},
    ),
    ({"width": 2, "robots": ["luxo"]}, ConfigError, {"about": ("luxo", "2.0 x 5.0")}),
    ({**DESCRIBED, "control": "thought"}, ConfigError, {"about": "control", "got": "thought"}),
    (
        {"walls": False, "objects": [{"name": "a", "circle": 1}]},
        ConfigError,
        {"about": ("walls", "robot", "view")},
    ),
    ({**DESCRIBED, "steps": 2.5}, ConfigError, {"about": "world.steps", "got": 2.5, "expected": "int"}),
    ({**DESCRIBED, "walls": 1}, ConfigError, {"about": "world.walls", "got": 1, "expected": "bool"}),
]


@pytest.mark.parametrize(("world", "kind", "fields"), BAD)
def test_a_bad_description_is_refused_in_one_line(world, kind, fields):
    with refused(kind, **fields):
        LcdEnv(world)


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (None, {"about": "mine.yaml"}),
        ("a: [", {"about": ("mine.yaml", "line 2")}),
        ("width: 3\nwidth: 4", {"about": ("mine.yaml", "line 2", "width")}),
        ("- 1", {"about": "mine.yaml", "advice": "fields"}),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, content, fields):
    file = tmp_path / "mine.yaml"
    if content is not None:
        file.write_text(content)
    with refused(WmplayError, **fields):
        LcdEnv(str(file))


def test_a_ramp_carries_what_lands_on_it():
    ramp = {"polygon": [[0, 0], [5, 0], [0, 2.5]]}
    ball = {"name": "ball", "circle": 0.3, "x": [1, 1], "y": [4, 4]}
    env = LcdEnv({"width": 5, "statics": [ramp], "objects": [ball]}, full_state=True)
    env.reset(seed=0)
    heights = []
    for _ in range(12):
        observation, *_ = env.step(np.zeros(1))
        heights.append(env.state[0, 1])
    assert env.state[0, 0] > 1.5, "it rolls down the ramp"
    assert min(heights) > 0.3
    assert observation["lcd"][-1].sum() >= 15, "the ramp is on the screen"


@pytest.mark.parametrize(
    ("world", "digest"),
    [
        ({"base": "luxo", "fps": 20}, "f56430fd4f1f"),
        ({"width": 5, "objects": [{"name": "ball", "circle": 0.4}]}, "dbddf875b046"),
    ],
)
def test_a_world_of_the_first_release_keeps_its_digest(world: dict[str, Any], digest: str) -> None:
    settings = {"world": world, "physics": "faithful"}
    assert LcdEnv.world_settings(settings)["world"] == f"custom-{digest}"


def test_bodies_pass_behind_an_occluder() -> None:
    ball = Object("ball", (Circle(0.5),), density=0.1, x=(2, 2), y=(2, 2))
    open_world = World(width=5, objects=(ball,), gravity=(0.0, 0.0))
    curtain = Occluder(box(0.5, 2.5), (3.0, 2.5))
    hidden = dataclasses.replace(open_world, occluders=(curtain,))
    start = np.array([[1.0, 2.0, 0.0, 3.0, 0.0, 0.0]])
    envs = [LcdEnv(world) for world in (open_world, hidden)]
    frames = [env.reset(seed=0, options={"state": start})[0]["lcd"] for env in envs]
    fixed = frames[1] > frames[0]
    assert fixed.any()
    for _ in range(9):
        frames = [env.step(np.zeros(1, np.float32))[0]["lcd"] for env in envs]
        assert np.array_equal(envs[0].state, envs[1].state)
        assert np.array_equal(frames[1] > 0, (frames[0] > 0) | fixed)


def test_objects_may_start_with_a_speed() -> None:
    env = LcdEnv(
        World(width=5, objects=(Object("ball", (Circle(0.4),), speed=(2.0, 3.0)),), gravity=(0.0, 0.0))
    )
    speeds = []
    for seed in range(20):
        env.reset(seed=seed)
        speeds.append(float(np.hypot(*env.state[0, 3:5])))
    assert 2 <= min(speeds) < max(speeds) <= 3
