"""Futures that a run's model predicts from a prompt: frames of a store, of a case, or drawn by hand."""

from wmplay.play.prompt.clips import Clip, read_clip
from wmplay.play.prompt.futures import Futures, prompt

__all__ = ["Clip", "Futures", "prompt", "read_clip"]
