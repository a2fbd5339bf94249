"""How a config names a piece: by ``kind/name``, never by a Python path.

The config of a piece is its settings and its name, as in ``{"_piece_": "model/rssm", "deter": 8}``. The
underscores keep that key apart from settings. Version 0.1 wrote the path of the class, ``_target_``; one
table says which pieces those paths were. When a class moves, the table stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wmplay.config.kinds import KINDS as KINDS

PIECE = "_piece_"
TARGET = "_target_"  # in the YAML of a config group: the class that the piece is; in old files: a path

MOVED: Mapping[str, str] = {
    "wmplay.envs.atari.AtariEnv": "env/atari",
    "wmplay.envs.dm_control.DmControlEnv": "env/dm_control",
    "wmplay.envs.gym.GymEnv": "env/gym",
    "wmplay.envs.lcd.LcdEnv": "env/lcd",
    "wmplay.envs.minigrid.MiniGridEnv": "env/minigrid",
    "wmplay.recorded.RecordedEnv": "env/recorded",
    "wmplay.models.ensemble.Ensemble": "model/ensemble",
    "wmplay.models.fbt.FBT": "model/fbt",
    "wmplay.models.fit.FIT": "model/fit",
    "wmplay.models.frnld.FRNLD": "model/frnld",
    "wmplay.models.gru.GRU": "model/gru",
    "wmplay.models.mlp.MLP": "model/mlp",
    "wmplay.models.rssm.RSSM": "model/rssm",
    "wmplay.planners.cem.CEM": "planner/cem",
    "wmplay.planners.random_shooting.RandomShooting": "planner/random_shooting",
    "wmplay.policies.mpc.MPC": "policy/mpc",
    "wmplay.policies.ppo.PPO": "policy/ppo",
    "wmplay.policies.random.RandomPolicy": "policy/random",
    "wmplay.policies.sac.SAC": "policy/sac",
    "wmplay.policies.exploration.EpsilonGreedy": "explorer/epsilon_greedy",
    "wmplay.policies.exploration.GaussianNoise": "explorer/gaussian_noise",
    "wmplay.policies.exploration.RandomColdStart": "explorer/random_cold_start",
    "wmplay.policies.exploration.Randomizer": "explorer/randomizer",
    "wmplay.objectives.DiscountedReturn": "objective/discounted_return",
    "wmplay.objectives.GoalDistance": "objective/goal_distance",
    "wmplay.objectives.SumOfRewards": "objective/sum_of_rewards",
    "wmplay.loggers.NoLogger": "logger/none",
    "wmplay.loggers.TensorBoardLogger": "logger/tensorboard",
    "wmplay.loggers.WandbLogger": "logger/wandb",
}


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a piece's settings: its config without what names the piece."""
    return {key: value for key, value in config.items() if key not in (PIECE, TARGET)}


def with_reference(config: Mapping[str, Any], reference: str | None) -> dict[str, Any]:
    """Return a piece's config with a path replaced by a reference; unchanged where there is none."""
    return dict(config) if reference is None else {PIECE: reference, **settings(config)}
