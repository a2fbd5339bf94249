"""A world without an arbiter: there is a way to make one, and no other world's will do."""

import pytest

import wmplay
from wmplay.envs.lcd import WORLDS
from wmplay.errors import ArbiterError
from wmplay.evaluation.arbiter.choice import arbiter_of
from wmplay.evaluation.arbiter.network import shipped_arbiters


@pytest.mark.parametrize("world", sorted(set(WORLDS) - set(shipped_arbiters())))
def test_the_way_to_make_one_is_named(world: str) -> None:
    with pytest.raises(ArbiterError) as caught:
        arbiter_of(wmplay.make_env(world))
    message = str(caught.value)
    assert message.startswith(f"no arbiter judges the world '{world}' as yet")
    assert f"python scripts/train_arbiter.py {world}" in message
    assert "evaluate.arbiter.clips" in message
    assert "did you mean" not in message
    assert "\n" not in message


@pytest.mark.parametrize("world", shipped_arbiters())
def test_those_that_are_there_are_found(world: str) -> None:
    assert arbiter_of(wmplay.make_env(world)).about["world"] == world
