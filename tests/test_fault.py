"""A planted fault: with a wrong sign in the solver the comparison of numbers has to turn red."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RIGHT = "slope = (x - denoiser(x, now)) / now"
WRONG = "slope = (denoiser(x, now) - x) / now"


@pytest.mark.skipif(os.environ.get("CI") != "true",
                    reason="recomputes a chapter, about a minute; set CI=true to run it")
def test_a_wrong_sign_in_the_solver_turns_the_numbers_red(tmp_path):
    for name in ("src", "tests", "notebooks", "data"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "_config.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    solver = tmp_path / "src" / "helpers" / "sampling.py"
    text = solver.read_text()
    assert text.count(RIGHT) == 1, "the solver was rewritten: plant the fault anew"
    solver.write_text(text.replace(RIGHT, WRONG))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "SAME_NOISE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "-p",
         "no:cacheprovider", "tests/notebooks/03_oracles.ipynb"],
        cwd=tmp_path, text=True, capture_output=True,
        env={**kept, "PYTHONPATH": str(tmp_path / "src")})
    said = done.stdout + done.stderr
    assert done.returncode == 1, said[-2000:]
    assert said.count("within") >= 10, said[-2000:]  # not one lucky number: most of them are off
    assert "no network was trained" not in said, said[-2000:]
