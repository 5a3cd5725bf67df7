"""The benchmark runs and writes what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_step_is_timed(tmp_path: Path) -> None:
    command = [sys.executable, "tests/benchmarks/step.py", "--only", "cpu-vector", "--steps", "2", "--device", "cpu"]
    result = subprocess.run(
        [*command, "--json", str(tmp_path / "rows.json")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["configuration"] == "cpu-vector"
    assert 0 < row["step_ms_min"] <= row["step_ms_median"]
    assert 0 < row["act_ms_median"] < row["step_ms_median"]
    assert "| cpu-vector | 0.27 |" in result.stdout
