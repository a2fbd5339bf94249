"""The returns, lengths, costs and success of a policy's episodes, with intervals.

The independent unit is the whole episode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wmplay.contracts import GOAL_PREFIX, Trajectory
from wmplay.evaluation.scores import PolicyScore
from wmplay.evaluation.statistics import mean_interval, success_rate

COST = "cost"  # of a step, in an env's info


def score_episodes(episodes: Sequence[Trajectory], seed: int) -> PolicyScore:
    """Score whole episodes. If observations have a goal, a terminated episode is a success.

    Args:
        episodes: of one policy.
        seed: of the episodes, recorded in the score.
    """
    has_goal = any(key.startswith(GOAL_PREFIX) for episode in episodes for key in episode.observation)
    successes = [bool(episode.terminated.any()) for episode in episodes] if has_goal else None
    return policy_score(episodes, successes, seed)


def policy_score(episodes: Sequence[Trajectory], successes: list[bool] | None, seed: int) -> PolicyScore:
    """Return the score of episodes, given the success of each."""
    rewards = [episode.reward for episode in episodes]
    given = [episode.info[COST] for episode in episodes if COST in episode.info]
    costs = [float(each.sum(dtype=np.float64)) for each in given] if len(given) == len(episodes) else None
    returns = [float(reward.sum(dtype=np.float64)) for reward in rewards]
    lengths = [len(reward) for reward in rewards]
    return PolicyScore(
        episodes=len(rewards),
        seed=seed,
        mean_return=mean_interval(np.array(returns)),
        mean_length=mean_interval(np.array(lengths)),
        success=None if successes is None else success_rate(sum(successes), len(successes)),
        returns=returns,
        lengths=lengths,
        successes=successes,
        mean_cost=None if costs is None else mean_interval(np.array(costs)),
        costs=costs,
    )
