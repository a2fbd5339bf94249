"""An installed wheel works away from the checkout: it carries its configs, arbiters and templates."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_wheel_carries_its_data_and_works_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("wmplay-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}  # found before the editable install

    def run(code: str, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert str(site) in run("import wmplay; print(wmplay.__file__)")
    assert "urchin_cube" in run("import wmplay; print(wmplay.registry.names('env'))")
    assert "(16, 32)" in run("import wmplay; print(wmplay.make_env('luxo').reset(seed=1)[0]['lcd'].shape)")
    assert "quickstart" in run(
        "from wmplay import registry; print(registry.compose(['experiment=quickstart']).name)"
    )
    command_line = "import sys; from wmplay.cli import main; sys.exit(main(sys.argv[1:]))"
    assert "wrote plugins/hopes.py" in run(command_line, "new", "objective", "hopes")
    assert "ok   better is higher" in run(command_line, "check", "objective=hopes", "env.physics=fast")
    assert "luxo-v1" in run(
        "from wmplay.evaluation.arbiter.network import load_arbiter; print(load_arbiter('luxo').name)"
    )
