"""The journal of a run: its metrics, its status, and the last lines in the terminal."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress

from rich.markup import escape

from wmplay import registry
from wmplay.config.settings import Settings
from wmplay.errors import DivergedError, WmplayError
from wmplay.loggers import Guarded, Jsonl
from wmplay.loop.state import State
from wmplay.runs.disk.directory import RunDirectory
from wmplay.system.progress import Interrupted, console


class Journal:
    """The writer of ``metrics.jsonl`` and of the run's logger, open within ``opened``."""

    jsonl: Jsonl
    logger: Guarded

    @contextmanager
    def opened(self, directory: RunDirectory, settings: Settings) -> Iterator[None]:
        """Open the files of metrics within the block, and close them also after an error."""
        config = settings.config()
        with closing(Jsonl(directory.metrics)) as self.jsonl:
            logger = Guarded(lambda: registry.build(settings.logger, run_dir=directory.path, config=config))
            with closing(logger) as self.logger:
                console.print(f"run in {escape(str(directory.path))}", soft_wrap=True)
                yield

    def log(self, phase: str, metrics: Mapping[str, float], state: State) -> None:
        """Write a line of ``metrics.jsonl``, and give the same metrics to the logger."""
        named = {name if "/" in name else f"{phase}/{name}": value for name, value in metrics.items()}
        where = {"phase": phase, "iteration": state.iteration, "time": round(time.time(), 3)}
        steps = {"real_steps": state.real_steps, "learned_steps": state.learned_steps}
        self.jsonl.log({**where, **steps, **named}, state.updates)
        self.logger.log(named, state.updates)


@contextmanager
def ending_noted(
    directory: RunDirectory, note: Callable[[str], None], stop: Callable[[], None]
) -> Iterator[None]:
    """Record in ``run.json`` that the run is running, and after the block how it ended.

    Args:
        directory: of the run.
        note: writes a status.
        stop: called after Ctrl-C, before the status is written.
    """
    go_on = f"go on with: [bold]wmplay train {escape(shlex.quote(f'run={directory.path}'))}[/bold]"
    directory.update(status="running")
    ending = "failed"
    try:
        yield
        ending = "finished"
    except Interrupted:
        stop()
        ending = "interrupted"
        console.print(f"stopped; {go_on}", soft_wrap=True)
        raise
    except KeyboardInterrupt:
        ending = "interrupted"
        raise
    except DivergedError as error:
        last = directory.checkpoints()[-1]
        raise DivergedError(
            f"{error}; the last good checkpoint is {last}",
            advice=(
                f"go on from it with run={directory.path} and a lower fit.lr, or look for the "
                "culprit in the model"
            ),
        ) from error
    except Exception:
        console.print(f"failed; when the cause is fixed, {go_on}", soft_wrap=True)
        raise
    finally:
        with nullcontext() if ending == "finished" else suppress(WmplayError):  # the first error counts
            note(ending)
