"""The faults of ``make mutants`` still have a place in the package; that tests see them is shown there."""

from __future__ import annotations

from pathlib import Path

import pytest

import mutants

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_one_place_and_tests_that_are_there(mutant: mutants.Mutant) -> None:
    text = (ROOT / "dreamer_helpers" / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.file}: what the mutant replaces is gone; plant it anew"
    assert (ROOT / mutant.tests[0]).is_file()
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_a_mutant_without_a_place_is_a_failure(tmp_path: Path) -> None:
    gone = mutants.Mutant("gone", "agent.py", "no such text", "")
    line, well, *_ = mutants.try_mutant(gone, gone.tests)
    assert (line, well) == ("lost      gone: agent.py has its text 0 times", False)
