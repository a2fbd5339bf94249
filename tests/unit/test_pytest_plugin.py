"""``pytest --wmplay-check``: a test for each property of each piece of a plugin."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wmplay.check.configured import properties
from wmplay.check.objectives import PROPERTIES

pytest_plugins = ["pytester"]

OBJECTIVES = """
import wmplay

@wmplay.register("objective", "total")
class Total:
    def __call__(self, prediction, observation):
        return prediction.reward.sum(1)

@wmplay.register("objective", "cost")
class Cost:
    def __call__(self, prediction, observation):
        return -prediction.reward.sum(1)
"""
HERE = ("-p", "pytest_wmplay", "-p", "no:cacheprovider")
FAST = ("--wmplay-set", "env.physics=fast")


def test_each_property_of_each_piece_is_a_test(pytester: pytest.Pytester) -> None:
    pytester.mkdir("plugins").joinpath("mine.py").write_text(OBJECTIVES)
    pytester.path.joinpath("plugins", "helpers.py").write_text("raise ValueError('nobody imports me')")
    result = pytester.runpytest_inprocess(*HERE, "--wmplay-check", "plugins", *FAST)
    outcomes = result.parseoutcomes()
    assert sum(outcomes.values()) == 2 * len(PROPERTIES)
    assert outcomes["failed"] == 1
    result.stdout.fnmatch_lines(
        ["*objective=cost: better is higher*", "a reward that is higher by 1*", "*return*"]
    )


def test_a_folder_that_is_no_folder_of_plugins_becomes_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WMPLAY_PLUGINS", "")
    pytester.mkdir("elsewhere").joinpath("apart.py").write_text(
        OBJECTIVES.replace('"', "'").replace("'total'", "'sum'")
    )
    result = pytester.runpytest_inprocess(*HERE, "--wmplay-check", "elsewhere", *FAST, "-k", "better and sum")
    result.assert_outcomes(passed=1, deselected=2 * len(PROPERTIES) - 1)


def test_a_plugin_that_does_not_load_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.mkdir("plugins").joinpath("torn.py").write_text("import nothing_of_this_name\nregister()")
    result = pytester.runpytest_inprocess(*HERE, "--wmplay-check", "plugins")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*torn.py does not load*nothing_of_this_name*"])


def test_a_piece_that_cannot_be_built_says_why(pytester: pytest.Pytester) -> None:
    pytester.mkdir("plugins").joinpath("unbuilt.py").write_text(OBJECTIVES.replace("total", "unbuilt"))
    result = pytester.runpytest_inprocess(*HERE, "--wmplay-check", "plugins", "--wmplay-set", "env.nothing=3")
    assert set(result.parseoutcomes()) == {"failed"}
    result.stdout.fnmatch_lines(["*nothing*"])


def test_without_the_option_nothing_is_imported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\n\ndef test_it():\n    assert not {'torch', 'wmplay'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-m", "pytest", *HERE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_policy_that_does_not_learn_has_fewer_tests() -> None:
    class Learner:
        def improve(self) -> None: ...

    assert set(properties("policy", object)) < set(properties("policy", Learner))
