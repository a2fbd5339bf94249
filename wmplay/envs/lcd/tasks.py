"""Tasks: to reach a goal state of the same world, given as observations under ``goal_`` keys.

The functions work on numpy arrays and torch tensors, with any leading axes, so that a planner scores imagined
observations with the same numbers as the environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Literal, TypeAlias

from wmplay.envs.lcd.worlds.world import World
from wmplay.errors import ConfigError

Observation: TypeAlias = Mapping[str, Any]
Reward: TypeAlias = Literal["distance", "progress"]

ENTRIES = 4  # x, y, cos and sin of each body in proprio and full_state


@dataclass(frozen=True)
class Region:
    """A rectangle of a world, in metres, that the robot's bodies should keep out of."""

    left: float
    bottom: float
    right: float
    top: float

    def __post_init__(self) -> None:
        if not (self.left < self.right and self.bottom < self.top):
            corners = [self.left, self.bottom, self.right, self.top]
            raise ConfigError(
                f"hazard is {corners}", got=corners, expected="[left, bottom, right, top] in metres"
            )

    def depth(self, x: Any, y: Any) -> Any:
        """Return the distance in metres of points to the region's nearest side, negative outside."""
        across = (self.right - self.left) / 2 - abs(x - (self.left + self.right) / 2)
        up = (self.top - self.bottom) / 2 - abs(y - (self.bottom + self.top) / 2)
        return -_larger(-across, -up)


class Task(ABC):
    """A goal, the distance to it, and the reward; with a hazard, a cost that is no part of the reward.

    Args:
        world: of the task.
        threshold: the distance below which the goal is reached.
        reward: "distance" is -d; "progress" is 10 x (d before - d after) - 0.05. Both add 1 at the goal.
        hazard: a region that costs 1 in each step in which a body of the robot is in it.
    """

    goal_keys: ClassVar[tuple[str, ...]]  # observation keys that also come as goal_<key>
    needs_full_state: ClassVar[bool] = False
    passive_steps: ClassVar[int] = 0  # steps without action from a random start to the goal
    ends = True  # whether reaching the goal ends an episode

    def __init__(self, world: World, threshold: float, reward: Reward, hazard: Region | None = None) -> None:
        if not threshold > 0:
            raise ConfigError(f"goal_threshold is {threshold}", got=threshold, expected="a positive number")
        if reward not in ("distance", "progress"):
            raise ConfigError(f"reward is '{reward}'", got=reward, expected="'distance' or 'progress'")
        self.world = world
        self.threshold = threshold
        self.reward = reward
        self.hazard = hazard

    @property
    @abstractmethod
    def goal_bodies(self) -> range:
        """The indices of the world's bodies that have a goal."""

    @abstractmethod
    def distance(self, observation: Observation) -> Any:
        """Return the distance to the goal over the leading axes: mean |goal - now| of scaled positions."""

    def reward_and_terminated(self, before: Observation, after: Observation) -> tuple[Any, Any]:
        """Return the reward of a step between two observations, and whether it ended at the goal."""
        distance = self.distance(after)
        reached = distance < self.threshold
        if self.reward == "distance":
            return -distance + reached, reached & self.ends
        return 10 * (self.distance(before) - distance) - 0.05 + reached, reached & self.ends

    def depth(self, observation: Observation) -> Any:
        """Return how deep the robot is in the hazard, in metres, over the leading axes; negative outside.

        Raises:
            ConfigError: if the task has no hazard.
        """
        if self.hazard is None:
            raise ConfigError("this task has no hazard", advice="give one: env.hazard=[4,0,5,2]")
        proprio = observation["proprio"]
        bodies = proprio.reshape((*proprio.shape[:-1], -1, ENTRIES))
        x, y = (
            (bodies[..., i] + 1) / 2 * size for i, size in enumerate((self.world.width, self.world.height))
        )
        depth = self.hazard.depth(x, y)
        return reduce(_larger, (depth[..., i] for i in range(depth.shape[-1])))

    def cost(self, observation: Observation) -> Any:
        """Return 1 over the leading axes where a body of the robot is in the hazard, and 0 elsewhere."""
        return (self.depth(observation) > 0) * 1.0


class BodyGoal(Task):
    """The task of moving the robot's body parts to the pose of an independent random start."""

    goal_keys = ("lcd", "proprio")

    def __init__(self, world: World, threshold: float, reward: Reward, hazard: Region | None = None) -> None:
        super().__init__(world, threshold, reward, hazard)
        if not world.robots:
            raise ConfigError(
                "task body_goal needs a world with a robot, this one has none", advice="choose task=null"
            )

    @property
    def goal_bodies(self) -> range:
        """The indices of the robot's bodies."""
        return range(len(self.world.objects), len(self.world.bodies))

    def distance(self, observation: Observation) -> Any:
        """Return the distance over x and y of every robot body, in ``proprio``."""
        return _mean_offset(observation["goal_proprio"] - observation["proprio"], None)


class CubeGoal(Task):
    """The task of moving the objects to where they came to rest from another start."""

    goal_keys = ("lcd", "full_state")
    needs_full_state = True
    passive_steps = 10

    def __init__(self, world: World, threshold: float, reward: Reward, hazard: Region | None = None) -> None:
        super().__init__(world, threshold, reward, hazard)
        if not (world.robots and world.objects):
            raise ConfigError(
                "task cube_goal needs a world with a robot and an object",
                advice="choose urchin_cube, or task=null",
            )

    @property
    def goal_bodies(self) -> range:
        """The indices of the objects."""
        return range(len(self.world.objects))

    def distance(self, observation: Observation) -> Any:
        """Return the distance over x and y of every object, in ``full_state``."""
        return _mean_offset(observation["goal_full_state"] - observation["full_state"], len(self.goal_bodies))


def _larger(one: Any, other: Any) -> Any:
    """Return the larger of two arrays or tensors, entry by entry."""
    return (one + other + abs(one - other)) / 2


def _mean_offset(offset: Any, bodies: int | None) -> Any:
    """Return the mean of |x| and |y| of the first bodies of [..., bodies * 4]."""
    offset = offset.reshape((*offset.shape[:-1], -1, ENTRIES))[..., :bodies, :2]
    return abs(offset).mean((-2, -1))


TASKS: Mapping[str, type[Task]] = {"body_goal": BodyGoal, "cube_goal": CubeGoal}
DEFAULT_REWARD: Mapping[str, Reward] = {"body_goal": "distance", "cube_goal": "progress"}
