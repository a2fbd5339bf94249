"""The work of a job, before it runs: floating-point operations of an update, and seconds on this machine."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from torch.utils.flop_counter import FlopCounterMode

from wmplay.config.settings import Settings
from wmplay.envs import build_env
from wmplay.loop.fitter import segment_length
from wmplay.loop.pace import measure
from wmplay.loop.rehearsal import observed, rehearse
from wmplay.runs.pieces import assemble, env_config
from wmplay.simulation import simulate
from wmplay.store import save_trajectories
from wmplay.system.device import choose_device

FEW = 5  # steps of an episode from which a segment is padded


def flops_of_update(settings: Settings) -> float:
    """Return the floating-point operations of an update of a run's model, forwards and backwards.

    Counted are the products and convolutions of the model's loss on one batch, for a model with stages of
    its joint loss.
    """
    parts = assemble(settings, torch.device("cpu"))
    with (
        TemporaryDirectory() as folder,
        closing(build_env(env_config(settings, settings.collect.env))) as env,
        torch.random.fork_rng(devices=[]),
    ):
        store = save_trajectories(simulate(env, None, 1, seed=0, max_steps=FEW), folder)
        length = segment_length(settings, parts.model)
        segment = store.sample(settings.fit.batch_size, length, 0)
        with FlopCounterMode(display=False) as counted:
            loss, _ = parts.model.train().loss(segment)
            loss.backward()
    return float(counted.get_total_flops())


def estimate(settings: Settings) -> tuple[float, int]:
    """Return the seconds that a run takes on this machine, as it would announce them, and its weights."""
    device = choose_device(settings.device)
    parts = assemble(settings, device)
    with observed(settings, parts):
        rehearse(settings, parts, device, continued=False)
        pace = measure(settings, parts, device, choose=False)
    if settings.fit.minutes is not None:
        steps = pace.updates_in(settings.fit.minutes, settings.iterations)
        settings = replace(settings, fit=replace(settings.fit, steps=steps))
    weights = sum(each.numel() for part in parts.modules().values() for each in part.parameters())
    return sum(pace.expected(settings).values()), weights
