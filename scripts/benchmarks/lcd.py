"""The batched LCD environment against Box2D alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wmplay.envs.lcd.physics import Blueprint, Simulation
from wmplay.envs.lcd.start import Start
from wmplay.envs.lcd.vector import LcdVectorEnv
from wmplay.envs.lcd.worlds.parse import find_world

from .measure import Result, Side, take_turns, time_ratio

ENVS, STEPS, REPEATS = 64, 100, 15  # a Luxo episode has 100 steps
BAR = 1.35


class BareLoop:
    """The worlds of a vector env, stepped by Box2D alone: no screens, no observations, no resets."""

    def __init__(self, actions: np.ndarray) -> None:
        world = find_world("luxo")
        blueprint = Blueprint(world, "faithful")
        self.simulations = [Simulation(blueprint) for _ in range(ENVS)]
        self.shapes = (0,) * len(world.bodies)
        self.speeds = (actions.astype(np.float64) * [motor.speed for motor in world.motors]).tolist()

    def start(self, states: np.ndarray) -> None:
        """Put each world into its state, [N, bodies, 6]."""
        for simulation, state in zip(self.simulations, states, strict=True):
            simulation.start(Start(state, self.shapes))

    def run(self, steps: int = STEPS) -> None:
        """Run the timed loop."""
        worlds = [(simulation.b2world, simulation.motors) for simulation in self.simulations]
        for speeds in self.speeds[:steps]:
            for (b2world, motors), targets in zip(worlds, speeds, strict=True):
                for motor, speed in zip(motors, targets, strict=True):
                    motor.motorSpeed = speed
                b2world.Step(1 / 30, 180, 60)
                b2world.Step(1 / 30, 180, 60)
                b2world.Step(1 / 30, 180, 60)


def benchmark() -> Result:
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, ENVS, 3)).astype(np.float32)
    env = LcdVectorEnv(ENVS, world="luxo")  # what make_env("luxo", num_envs=64) gives
    bare = BareLoop(actions)
    check_same_work(env, bare, actions)

    def batched() -> Callable[[], None]:
        env.reset(seed=0)

        def run() -> None:
            for action in actions:
                env.step(action)

        return run

    def box2d() -> Callable[[], None]:
        env.reset(seed=0)
        bare.start(env.state)
        return bare.run

    ours, theirs = take_turns([Side("wmplay, vector env", batched), Side("Box2D alone", box2d)], REPEATS)
    return Result(
        "lcd: the batched environment against Box2D alone",
        f"{ENVS} Luxo worlds in one process, one episode of {STEPS} steps each, faithful physics. "
        "wmplay sets the motors, steps, draws all screens, assembles all observations and resets every world "
        "after the last step. The other side is a loop over the same worlds, made by the same code and set "
        "to the same states; it sets the same motor speeds and calls `world.Step(1/30, 180, 60)` three "
        "times. Before timing, both sides are checked to end in the same states, bit for bit.",
        [ours, theirs],
        ENVS * STEPS,
        "env steps",
        [time_ratio("batched Luxo, 64 envs, against the bare Box2D loop", ours, theirs, BAR)],
    )


def check_same_work(env: LcdVectorEnv, bare: BareLoop, actions: np.ndarray) -> None:
    """Check that both sides have the same contacts, except in the last step, after which ours resets."""
    env.reset(seed=0)
    bare.start(env.state)
    bare.run(STEPS - 1)
    for action in actions[:-1]:
        env.step(action)
    states = np.stack([simulation.state for simulation in bare.simulations])
    if not np.array_equal(env.state, states):
        raise SystemExit("lcd: the bare loop does not do the same work, so the comparison would mean nothing")
