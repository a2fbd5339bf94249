import pytest

from wmplay.errors import LONGEST, ConfigError, RunError, UnknownName, WmplayError

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
