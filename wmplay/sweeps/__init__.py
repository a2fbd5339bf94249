"""Many runs from one command line."""

from wmplay.sweeps.requests import check as check
from wmplay.sweeps.sweep import launch as launch
from wmplay.sweeps.sweep import multirun as multirun
from wmplay.sweeps.sweep import show as show
