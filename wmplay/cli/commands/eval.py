"""The command ``wmplay eval``: evaluate a run again, try its model in kept cases, rank policies by it, or
verify the card of an export."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from wmplay.cli.arguments import at_least, overrides_argument, run_argument
from wmplay.errors import UsageError

CASES, POLICIES, IMAGINED = "cases=", "policies=", "imagined="
PAIRS = "evaluate.violation.pairs=200"  # that violation=true stands for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    run_argument(parser)
    overrides_argument(
        parser,
        "settings of the evaluation: evaluate.policy.episodes=1000 ...; or cases=DIR, "
        "or violation=true, or policies=own,random,cem,RUN,... with imagined=N",
    )
    what = "score an export again on the episodes of its card, and compare the numbers"
    parser.add_argument("--verify", action="store_true", help=what)
    few = "with --verify: act from the first N starts of the card alone; 0 = compare predictions alone"
    parser.add_argument("--episodes", type=at_least(0), metavar="N", help=few)


def run(options: argparse.Namespace) -> None:
    """Evaluate a run, and print its results.

    With ``cases=DIR``, print what its model does in these cases; with ``policies=...``, how it ranks them.

    Raises:
        WmplayError: for any mistake that the user can fix; one line.
    """
    if options.verify:
        _verify(options.run, options.overrides, options.episodes)
        return
    if options.episodes is not None:
        raise UsageError(
            "--episodes goes with --verify", advice="evaluate.policy.episodes=N evaluates a run again"
        )
    chosen = [text.removeprefix(CASES) for text in options.overrides if text.startswith(CASES)]
    if chosen:
        if len(options.overrides) > 1:
            raise UsageError("cases= goes with no other setting")
        _try_cases(options.run, Path(chosen[0]))
        return
    if any(text.startswith((POLICIES, IMAGINED)) for text in options.overrides):
        _rank(options.run, options.overrides)
        return
    from wmplay.cli.commands.report import print_results
    from wmplay.loop.train import evaluate_again

    overrides = [PAIRS if text == "violation=true" else text for text in options.overrides]
    evaluate_again(options.run, overrides)
    print_results(options.run)


def _verify(run: Path, overrides: Sequence[str], episodes: int | None) -> None:
    """Print each number of a card next to the one here. Raise CardError if they disagree."""
    from wmplay.cards.verify import check_agreement, verify
    from wmplay.report.numbers import interval
    from wmplay.system.printing import say

    if overrides:
        raise UsageError(f"--verify scores what the card says: no '{overrides[0]}'")
    comparisons = verify(run, episodes)
    for each in comparisons:
        verdict = "agrees" if each.agrees else "DIFFERS"
        say(f"{verdict}  {each.name}: {interval(each.here)} here, {interval(each.card)} on the card")
    check_agreement(run, comparisons)
    say(f"{run} agrees with its card: {len(comparisons)} numbers")


def _try_cases(run: Path, folder: Path) -> None:
    """Print for each case the steps that the run's model holds, and those of the model it was kept with."""
    from wmplay.evaluation.cases import load_cases, score_case
    from wmplay.runs.compatibility import check_same_world
    from wmplay.runs.load import load_run
    from wmplay.system.printing import say

    loaded, cases = load_run(run), load_cases(folder)
    for case in cases:
        check_same_world(f"case {case.path}", case.made_with, loaded.env, "keep cases of this one")
    scores = [score_case(loaded.model, case, loaded.device) for case in cases]
    for score in scores:
        about, steps = score.case.about, score.case.steps
        result = "passed" if score.passed else "failed"
        say(f"{about.name}: {result}, held {score.held} of {steps} steps (with {about.model}: {about.held})")
    say(f"{sum(score.passed for score in scores)} of {len(scores)} cases passed")


def _rank(run: Path, given: Sequence[str]) -> None:
    """Print how the run's model ranks policies, next to how the real world does."""
    from wmplay.evaluation.ranking import RANKING_FILE, rank_run
    from wmplay.report.ranking import ranking_table
    from wmplay.system.printing import say
    from wmplay.system.progress import terminal

    listed = [text.removeprefix(POLICIES) for text in given if text.startswith(POLICIES)]
    numbers = [text.removeprefix(IMAGINED) for text in given if text.startswith(IMAGINED)]
    overrides = [text for text in given if not text.startswith((POLICIES, IMAGINED))]
    policies = [name for text in listed for name in text.strip("[]").split(",") if name]
    ranking = rank_run(run, policies, overrides, _whole(numbers[-1]) if numbers else None)
    terminal().print(ranking_table(ranking))
    say(f"all numbers: {run / RANKING_FILE}")


def _whole(text: str) -> int:
    try:
        return at_least(1)(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{IMAGINED[:-1]}: {error}", got=text) from error
