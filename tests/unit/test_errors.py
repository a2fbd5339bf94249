import pickle

import pytest

from wmplay.errors import (
    LONGEST,
    ConfigError,
    RunError,
    ShapeError,
    UnknownName,
    WmplayError,
    portable,
    restored,
)

TEXTS = ["a\nb", "\x1b[2Jred", "a\0b", "\u202eb", "\ud800", "x" * 10**6, "\r\n" * 9000]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [ConfigError, RunError, lambda text: UnknownName("model", text, ["mlp"])])
def test_whatever_an_error_quotes_it_is_one_line_that_a_terminal_can_show(make, text: str) -> None:
    message = str(make(text))
    assert message.isprintable()
    assert len(message) <= 4 * LONGEST
    message.encode()


def test_other_scripts_stay_as_they_are() -> None:
    assert str(WmplayError("世界 → naïve")) == "世界 → naïve"


def test_the_message_is_made_of_the_fields() -> None:
    error = ConfigError("steps is 0", got=0, expected="at least 1", advice="raise it")
    assert str(error) == "steps is 0, expected at least 1: raise it"
    assert (error.problem, error.got, error.expected, error.advice) == (
        "steps is 0",
        0,
        "at least 1",
        "raise it",
    )
    assert str(ConfigError("no")) == "no"
    assert ConfigError("no").expected is None


def test_fields_come_along_from_another_process() -> None:
    try:
        raise ShapeError("actions", (2, 3), (5, "A"), advice="one for each row")
    except ShapeError as error:
        sent = pickle.loads(pickle.dumps(portable(error, "my.py:7")))
    again = restored(sent, "a worker")
    assert isinstance(again, ShapeError)
    assert (again.got, again.expected, again.advice) == ((2, 3), "[5, A]", "one for each row")
    assert str(again) == "actions has shape [2, 3], expected [5, A]: one for each row"
