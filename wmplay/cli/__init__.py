"""The command line: ``main`` and one file a command."""

from wmplay.cli.main import main

__all__ = ["main"]
