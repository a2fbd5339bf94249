"""What is said before anything is collected, of a run that may not be meant so or that cannot be done."""

import pytest
import torch

from wmplay import registry
from wmplay.errors import WmplayError
from wmplay.loop.rehearsal import rehearse
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
