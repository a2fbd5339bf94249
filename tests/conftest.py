import gc
import sys

import pytest

from wmplay.cli.main import COLLECT

gc.set_threshold(*COLLECT)
sys.dont_write_bytecode = True  # a plugin may change twice in a second; refusals leave no file


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Undo what an earlier training chose: two threads in each of two processes take many times as long."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
