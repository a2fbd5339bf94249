"""What is said before anything is collected, of a run that may not be meant so or that cannot be done."""

import pytest
import torch

from wmplay import registry
from wmplay.errors import SpaceError, WmplayError
from wmplay.loop.rehearsal import observed, rehearse
from wmplay.runs.pieces import assemble

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("policy", "said"), [(["policy=sac"], True), (["policy=sac", "improve.steps=3"], False), ([], False)]
)
def test_a_policy_that_learns_in_a_run_without_practice_is_named(
    policy: list[str], said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = registry.compose(["experiment=tiny", *policy])
    rehearse(settings, assemble(settings, CPU), CPU)
    output = capsys.readouterr()
    assert ("improve.steps" in output.out + output.err) == said


@pytest.mark.parametrize(
    ("experiment", "model", "token"),
    [
        ("muzero", "mlp", "gamma"),  # no values
        ("tdmpc2", "mlp", "bootstrap"),
        ("pets", "tdmpc2", "'vector'"),  # no observations
        ("dreamer_v3", "lewm", "reward"),
        ("dreamer_v3", "ensemble", "features"),
    ],
)
def test_a_model_that_lacks_what_an_agent_needs_is_refused(experiment: str, model: str, token: str) -> None:
    settings = registry.compose([f"experiment={experiment}", f"model={model}"])
    with pytest.raises(WmplayError) as error:
        rehearse(settings, assemble(settings, CPU), CPU)
    assert token in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "tokens"),
    [
        (
            ["experiment=tiny", "model=rssm", "model.goals=true", "collect.env.task=null"],
            ["goal_", "(RSSM)"],
        ),  # the model alone reads it
        (
            ["experiment=tiny", "policy=sac", "collect.env.task=null", "collect.episodes=1"],
            ["goal_", "policy"],
        ),
        (["experiment=tdmpc2", "collect.env.id=CartPole-v1"], ["vector"]),  # another shape
    ],
)
def test_an_observation_that_the_env_collected_in_lacks_is_named(
    overrides: list[str], tokens: list[str]
) -> None:
    settings = registry.compose(overrides)
    parts = assemble(settings, CPU)
    with pytest.raises(SpaceError) as error, observed(settings, parts):
        rehearse(settings, parts, CPU)
    assert all(token in str(error.value) for token in tokens)


def test_an_error_of_a_piece_about_another_key_stays_what_it_is() -> None:
    settings = registry.compose(["experiment=tiny", "collect.env.task=null"])
    parts = assemble(settings, CPU)
    for key in ("mine", "lcd"):
        with pytest.raises(KeyError), observed(settings, parts):
            raise KeyError(key)
