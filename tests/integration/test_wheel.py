"""An installed wheel works away from the checkout, with its configs, arbiters, templates and trained runs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
USE = """
import sys
import wmplay
from wmplay.cli import main
from wmplay.evaluation.arbiter.network import load_arbiter

print(wmplay.__file__)
print(wmplay.registry.names("env"))
print(wmplay.make_env("luxo").reset(seed=1)[0]["lcd"].shape)
print(wmplay.registry.compose(["experiment=quickstart"]).name)
print(load_arbiter("luxo").name)
print(wmplay.load_run("luxo-mlp").path)
sys.exit(main(["new", "objective", "hopes"]) or main(["check", "objective=hopes", "env.physics=fast"]))
"""


def test_a_wheel_carries_its_data_and_works_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("wmplay-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}  # found before the editable install

    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert str(site) in done.stdout.splitlines()[0]
    for text in ("urchin_cube", "(16, 32)", "quickstart", "luxo-v1", f"{site}/wmplay/trained/luxo-mlp"):
        assert text in done.stdout
    assert "wrote plugins/hopes.py" in done.stdout
    assert "ok   better is higher" in done.stdout
