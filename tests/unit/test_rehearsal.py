"""What the rehearsal says of a run that can be done, and may not be what was meant."""

import pytest
import torch

from wmplay import registry
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
