"""Every built-in policy, explorer, objective and logger keeps what its kind promises."""

from pathlib import Path

import pytest

from wmplay import registry
from wmplay.cli import main

SMALL_MPC = [
    "model=mlp",
    "model.hidden=17",
    "planner.candidates=5",
    "planner.iterations=2",
    "planner.horizon=3",
]
QUICK_SAC = [
    "policy.hidden=31",
    "policy.batch_size=61",
    "policy.random_steps=53",
    "policy.lr=3e-3",
    "policy.tau=0.05",
    "policy.updates_per_step=0.2",
]
SMALL_DREAMER = [
    "model.deter=17",
    "model.stoch=3",
    "model.hidden=17",
    "model.image_hidden=17",
    "policy.hidden=31",
    "policy.layers=1",
    "policy.batch_size=5",
    "policy.length=3",
    "policy.horizon=3",
    "policy.lr=1e-2",
    "policy.warmup=3",
]
SMALL_HVF = [
    "policy.candidates=3",
    "policy.elites=2",
    "policy.iterations=1",
    "policy.hidden=31",
    "policy.batch_size=17",
]
SETTINGS = {
    "objective=safe_goal_distance": ["env.hazard=[4.5,0,5.5,0.6]"],
    "policy=mpc": SMALL_MPC,
    "policy=hvf": ["--quick", *SMALL_MPC, *SMALL_HVF],
    "policy=hvpc": ["--quick", *SMALL_HVF, "policy.horizon=2"],
    "policy=prior": ["model=tdmpc2", "model.latent=8", "model.hidden=17", "model.encoder_hidden=13"],
    "policy=ppo": ["policy.hidden=31"],
    "policy=sac": QUICK_SAC,
    "policy=dreamer_v1": ["--quick", *SMALL_DREAMER],
    "policy=dreamer_v2": ["--quick", *SMALL_DREAMER],
    "policy=dreamer": SMALL_DREAMER,
    "policy=dreamer_v3": ["--quick", *SMALL_DREAMER],
    "policy=plan2explore": ["--quick", "policy.ensemble=3", *SMALL_DREAMER],
}
KINDS = ("policy", "explorer", "objective", "logger")
PIECES = [f"{kind}={name}" for kind in KINDS for name in registry.names(kind)]


@pytest.mark.parametrize("piece", PIECES)
def test_built_in_pieces_pass(
    piece: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if piece in ("logger=wandb", "logger=tensorboard"):
        pytest.importorskip(piece.partition("=")[2])
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = ["env.task=body_goal", "env.physics=fast", *SETTINGS.get(piece, [])]
    status = main(["check", piece, *settings])
    output = capsys.readouterr()
    assert status == 0, output.out + output.err
    assert all(line.startswith(("ok   ", "--   ")) for line in output.out.splitlines())


def test_discrete_actions_pass(capsys: pytest.CaptureFixture[str]) -> None:
    cart = ["env=gym", "env.id=CartPole-v1"]
    for piece in ("policy=ppo", "explorer=epsilon_greedy", "explorer=randomizer"):
        status = main(["check", piece, *cart, *SETTINGS.get(piece, [])])
        output = capsys.readouterr()
        assert status == 0, output.out + output.err


def test_models_without_a_decoder_or_weights_pass(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["model.width=17", "model.code=11", "model.hidden=13", "model.channels=3"]
    for piece in (["model=lewm", "--quick", *small], ["model=oracle", "env=catch"]):
        status = main(["check", *piece])
        output = capsys.readouterr()
        assert status == 0, output.out + output.err
        assert "ok   seeing in parts" in output.out.splitlines()


REFUSED = {
    "policy=pppo": "unknown policy 'pppo': did you mean 'ppo'?",
    "policy=mpc policy.replan_every=99": "replan_every is 99, expected 1 to the horizon, 12",
    "policy=sac env=gym env.id=CartPole-v1": "action space is Discrete(2), expected a one-dimensional Box",
    "explorer=gaussian_noise env=gym env.id=CartPole-v1": "action space is Discrete(2), expected a one-dim",
    "explorer=epsilon_greedy explorer.epsilon=2": "epsilon is 2",
    "objective=goal_distance": "no goal in the observations (lcd, proprio), expected x beside goal_x",
    "policy=random env.max_steps=3": "last 7 steps, expected 5 for a policy to be tried on",
    "objective=sum_of_rewards env.max_steps=2": "last 3 steps, expected 5 for an objective to be tried on",
    "logger=none logger.file=x": "NoLogger takes no 'file'",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_cannot_be_checked_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *command.split()]) == 2
    error = capsys.readouterr().err
    assert REFUSED[command] in error
    assert len(error.splitlines()) == 1
