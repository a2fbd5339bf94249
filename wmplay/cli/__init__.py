"""The command line: ``main``, and one file per command."""

from wmplay.cli.main import main

__all__ = ["main"]
