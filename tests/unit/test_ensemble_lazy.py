"""Members that each step observe what another predicted look at what they read, and draw nothing else."""

import pytest
import torch
from small_models import ACTIONS, OBSERVATIONS, actions, segment

from wmplay.models.ensemble import Ensemble
from wmplay.nets.observations import ImageHead


def test_screens_that_no_member_reads_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    space, action_space = OBSERVATIONS["screen and vector"], ACTIONS["continuous"]
    settings = {"hidden": 7, "image_hidden": 7}
    model = Ensemble(space, action_space, of="mlp", members=3, settings=settings, choose="step")
    first = {key: value[:, 0] for key, value in segment(space, action_space, 5, 1).observation.items()}
    drawn = 0

    def draw(self: ImageHead, latent: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        nonlocal drawn
        drawn += 1
        return latent.new_zeros(*latent.shape[:-1], *self.shape)

    monkeypatch.setattr(ImageHead, "forward", draw)
    with torch.no_grad():
        belief, push = model.initial(first), actions(action_space, 5, 4)
        future = model.predict(belief, push, generator=torch.Generator().manual_seed(0))
        assert drawn == 0
        assert future.observation["proprio"].shape[:2] == (5, 4)
        assert drawn == 0
        assert future.observation["lcd"].shape[:2] == (5, 4)
        assert drawn > 0
