"""The rehearsal of a run: everything is tried once, on a small scale, so that a mistake costs seconds."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import torch

from wmplay import registry
from wmplay.config.settings import Settings
from wmplay.contracts import (
    NeedsPackage,
    Policy,
    Practice,
    env_spec,
    learner_of,
    observation_spaces,
    seen_by,
)
from wmplay.envs import build_env
from wmplay.envs.recorded import RecordedEnv
from wmplay.errors import ConfigError, ShapeError, SpaceError
from wmplay.evaluation import check_arbiter, check_sweep
from wmplay.loop.lending import lending
from wmplay.runs.compatibility import check_policy, check_same_world, check_store
from wmplay.runs.load import load_run
from wmplay.runs.pieces import Parts, env_config
from wmplay.runs.worlds import collected_in, longest_episode, practice_env
from wmplay.simulation import predict, simulate
from wmplay.store import Store, load_trajectories, save_trajectories
from wmplay.store.split import hold_out
from wmplay.system.progress import tell
from wmplay.vector.answers import Held

MEANT = "set env.other_world=true to mean it"
STEPS = 2  # the first begins an episode, the second continues it


def rehearse(settings: Settings, parts: Parts, device: torch.device, *, continued: bool = False) -> None:
    """Try all that a run will do with its pieces; nothing is written or changed.

    Args:
        settings: of the run.
        parts: its pieces.
        device: of the model.
        continued: whether the run continues from a checkpoint, with its collected data.

    Raises:
        WmplayError: for anything that the run could not do.
    """
    require_logger(settings)
    collect = settings.collect
    collects = collect.random_episodes + collect.episodes + collect.steps > 0
    _check_steps(settings)
    check_sweep(settings, parts.env)
    other_world = settings.recorded.other_world
    given = None if continued or settings.recorded.data is None else load_trajectories(settings.recorded.data)
    if parts.model is not None and settings.fit.steps and not collects and given is None and not continued:
        raise ConfigError(
            "there is nothing to fit the model on: collect episodes (collect.random_episodes, "
            "collect.episodes, collect.steps) or give a store of them with env.data=<store>"
        )
    if collect.drift:
        build_env(env_config(settings, collected_in(settings, settings.iterations - 1))).close()
    with closing(build_env(env_config(settings, collected_in(settings, 0)))) as env:
        _check_alike(env, parts.env)
        if isinstance(env, RecordedEnv):
            _check_recorded(settings, env)
        else:
            check_answers(env)
        if parts.model is not None:
            _predict(env, parts.model, device)
        if settings.improve.steps and collects:
            _check_reward(settings, env, parts.env)
        if collect.episodes or collect.steps:
            act(env, parts.policy, device)  # without exploration: who is at fault is clear
            act(env, parts.explorer, device, explore=True)
        if given is not None:
            if not other_world:
                check_same_world(f"store {given.path}", given.made_with, env, MEANT)
            check_store(given, env, every_key=collects)
        if parts.model is not None and settings.evaluate.prediction.episodes:
            _check_windows(settings, env)
    if settings.improve.steps:
        with _experience(settings, given, collects) as store:
            _practise(settings, parts, given, store, device)
    elif (learner := learner_of(parts.policy)) is not None and not continued:
        tell(f"{type(learner).__name__} will not learn in this run: improve.steps is 0")
    if parts.model is not None and settings.evaluate.arbiter.clips:
        check_arbiter(parts.env, settings.evaluate.prediction.horizon, settings.evaluate.arbiter.clips)
    if settings.evaluate.policy.episodes:
        with closing(build_env(env_config(settings))) as env:
            act(env, parts.policy, device)
            if settings.evaluate.policy.reference is not None:
                other = load_run(settings.evaluate.policy.reference)
                check_policy(other, env, None if other_world else MEANT)


@contextmanager
def observed(settings: Settings, parts: Parts) -> Iterator[None]:
    """Say which observation a piece reads that the run's env has, and the env collected in lacks.

    Raises:
        SpaceError: instead of the KeyError of the piece.
    """
    try:
        yield
    except KeyError as error:
        (key,) = error.args
        with closing(build_env(env_config(settings, collected_in(settings, 0)))) as env:
            there = observation_spaces(env_spec(env).observation_space)
        if key in there or key not in observation_spaces(env_spec(parts.env).observation_space):
            raise
        raise SpaceError(
            f"{_reader(parts, error)} reads the observation '{key}', which the env collected in lacks",
            got=", ".join(there),
            advice="let the env have it while collecting too (collect.env), or choose a piece without it",
        ) from error


def _reader(parts: Parts, error: KeyError) -> str:
    """Return the name of the piece, of which there may be copies, that raised an error or called what did."""
    name = "a piece of the run"
    kinds = {type(piece): kind for kind, piece in reversed(vars(parts).items())}  # the explorer may be one
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = type(frame.f_locals.get("self"))
        name = f"{kinds[found]} ({found.__name__})" if found in kinds else name
    return name


def _check_alike(env: gymnasium.Env[Any, Any], acted: gymnasium.Env[Any, Any]) -> None:
    """Raise SpaceError if arrays of the env collected in have other shapes than those of the run's env.

    An observation may be missing: not every piece reads it.
    """
    here, there = env_spec(env), env_spec(acted)
    spaces = observation_spaces(here.observation_space) | {"action": here.action_space}
    for key, space in (observation_spaces(there.observation_space) | {"action": there.action_space}).items():
        other = spaces.get(key, space)
        if (type(other), other.shape, other.dtype) != (type(space), space.shape, space.dtype):
            raise SpaceError(
                f"'{key}' is {other} in the env collected in",
                got=other,
                expected=f"{space}, as in the run's env",
            )


def _check_steps(settings: Settings) -> None:
    """Raise ConfigError if ``collect.steps`` contradicts another setting."""
    collect = settings.collect
    if collect.steps and collect.episodes:
        raise ConfigError(
            f"collect.episodes is {collect.episodes} and collect.steps is {collect.steps}",
            expected="one of them, the other 0",
        )
    if collect.steps and collect.over_ray:
        raise ConfigError(
            "collect.steps counts the steps of this process, and with collect.workers=ray actors take them",
            advice="give collect.episodes, or collect.workers=local",
        )


def require_logger(settings: Settings) -> None:
    """Raise ConfigError unless the package that a run's logger needs is installed."""
    logger: Any = registry.target(settings.logger)
    if isinstance(logger, NeedsPackage):
        logger.check()


def act(
    env: gymnasium.Env[Any, Any], policy: Policy | None, device: torch.device, *, explore: bool = False
) -> None:
    """Take two steps with a policy. Raise any error of the policy or the env."""
    simulate(env, policy, 1, seed=0, max_steps=STEPS, device=device, explore=explore)


def check_answers(env: gymnasium.Env[Any, Any]) -> None:
    """Reset and step once, and check that an env's results have Gymnasium's form and are in its spaces.

    Bounds, and widths of floats, which are converted, are left to ``wmplay check``.

    Raises:
        ConfigError: for a missing method, or a malformed result.
        ShapeError, SpaceError: for an observation outside its space.
    """
    answers = Held(env)
    answers.reset(seed=0)
    answers.step(env.action_space.sample())


@contextmanager
def _experience(settings: Settings, given: Store | None, collects: bool) -> Iterator[Store | None]:
    """Yield the experience for practice: the given store, or a small one like the run will have."""
    if given is not None or not collects:
        yield given
        return
    chosen = env_config(settings, settings.collect.env)
    with TemporaryDirectory() as folder, closing(build_env(chosen)) as env:
        yield save_trajectories(simulate(env, None, 1, seed=0, max_steps=STEPS), folder)


def _practise(
    settings: Settings, parts: Parts, given: Store | None, experience: Store | None, device: torch.device
) -> None:
    """Let a copy of a policy that learns practise a little with a copy of the model."""
    if learner_of(parts.policy) is None:
        raise ConfigError(
            f"improve.steps is {settings.improve.steps}, but {type(parts.policy).__name__} does not learn",
            advice="choose a policy that does (policy=ppo), or improve.steps=0",
        )
    starts = settings.learned.starts if given is not None else "env"  # what is collected is yet too short
    small = replace(
        settings,
        improve=replace(settings.improve, num_envs=2, num_workers=0),
        learned=replace(settings.learned, count=2, starts=starts),
    )
    model, policy = copy.deepcopy((parts.model, parts.policy))  # at once: the policy may hold the model
    copies, learner = replace(parts, model=model, policy=policy), learner_of(policy)
    assert learner is not None
    with closing(practice_env(small, copies, given, device, 0)) as env, lending(copies, "improve"):
        learner.improve(Practice(env, STEPS, 0, device, experience, model))


def _check_reward(
    settings: Settings, env: gymnasium.Env[Any, Any], practised: gymnasium.Env[Any, Any]
) -> None:
    """Raise ConfigError unless a model whose heads reward practice is fitted on rewards of the same task."""
    task, here = env_spec(practised).task, env_spec(env).task
    by_heads = settings.improve.world == "learned" and settings.learned.reward == "model"
    if by_heads and task is not None and here is None:
        raise ConfigError(
            "learned.reward=model takes the reward of practice from the model, which is fitted on "
            "episodes without reward",
            advice="set collect.env.task to that of env, or learned.reward=task",
        )


def _predict(env: gymnasium.Env[Any, Any], model: Any, device: torch.device) -> None:
    """Predict two steps from an episode's first frame, and decode them."""
    if isinstance(env, RecordedEnv):
        trajectory = env.beginning(STEPS)
    else:
        (trajectory,) = simulate(env, None, 1, seed=0, max_steps=STEPS)
    first = {key: torch.from_numpy(value[:1]).to(device) for key, value in trajectory.observation.items()}
    with torch.no_grad():
        belief = model.initial(seen_by(model, first))
        prediction = predict(model, belief, torch.from_numpy(trajectory.action[None]).to(device))
        for key, value in prediction.observation.items():
            expected = (1, len(trajectory), *first[key].shape[1:]) if key in first else tuple(value.shape)
            if value.shape != expected:
                raise ShapeError(f"{type(model).__name__}: the predicted '{key}'", value.shape, expected)


def _check_recorded(settings: Settings, env: RecordedEnv) -> None:
    """Raise an error if a run needs more than the recorded data has."""
    collect = settings.collect
    if collect.random_episodes or collect.episodes or collect.steps:
        env.reset()  # says why not
    if settings.evaluate.prediction.episodes:
        hold_out(env.store, settings.evaluate.prediction.episodes, settings.evaluate.seed)


def _check_windows(settings: Settings, env: gymnasium.Env[Any, Any]) -> None:
    """Raise ConfigError if the env's time limit is too short for the clips to be predicted."""
    prediction = settings.evaluate.prediction
    steps = prediction.context - 1 + prediction.horizon
    longest = longest_episode(settings, env)
    if longest is not None and steps > longest:
        raise ConfigError(
            f"evaluate.prediction: {prediction.context} frames of context and a horizon of "
            f"{prediction.horizon} take {steps} steps, an episode has at most {longest}",
            advice="lower one of them",
        )
