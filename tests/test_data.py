"""The files that lessons load: they are what the manifest says, and found wherever the package was installed to."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.course import data
from dreamer_helpers.course.data import DATA, MANIFEST, Origin, shipped
from dreamer_helpers.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import make_data  # noqa: E402

ENTRIES = json.loads(MANIFEST.read_text())
OTHER = {"README.md", "manifest.json", "results.json", "learning.png"}


def test_what_is_shipped_is_what_the_manifest_says() -> None:
    for name, entry in ENTRIES.items():
        content = shipped(name).read_bytes()
        assert set(entry) == {"what", "made", "bytes", "sha256", "licence"}
        assert len(content) == entry["bytes"] < 8e6
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
    assert {path.name for path in DATA.iterdir()} == set(ENTRIES) | OTHER


@pytest.mark.parametrize("name", [name for name in ENTRIES if name.endswith(".safetensors")])
def test_a_shipped_agent_can_be_read_by_the_package_of_today(name: str) -> None:
    agent = DreamerV3.from_checkpoint(shipped(name))
    obs = {key: np.stack([space.sample()]) for key, space in agent.observation_space.items()}
    action, _ = agent.act({**obs, "is_first": np.array([True])}, None)
    assert action.shape == (1, agent.actions.dim)


def test_lessons_say_how_every_file_is_made() -> None:
    assert set(make_data.makers()) == set(ENTRIES)
    readme = (DATA / "README.md").read_text()
    assert readme == make_data.with_table(readme, ENTRIES)
    assert all(f"`{name}`" in readme for name in OTHER - {"README.md"})


def test_a_file_is_entered_and_then_found(tmp_path: Path) -> None:
    (tmp_path / "new.npz").write_bytes(b"new")
    make_data.enter(tmp_path / "new.npz", Origin("three letters", "by hand"), tmp_path / "manifest.json")
    assert shipped("new.npz", tmp_path).read_bytes() == b"new"
    page = make_data.with_table(
        "a\n" + make_data.BEGIN + make_data.END, json.loads((tmp_path / "manifest.json").read_text())
    )
    assert "| `new.npz` | three letters | `python tools/make_data.py new.npz`: by hand |" in page


def test_an_unknown_file_cannot_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_data.main(["old.npz"]) == 2
    assert capsys.readouterr().err.startswith("error: no old.npz; there are orchard_agent.safetensors, ")


def test_a_missing_or_damaged_file_says_how_to_get_it_back(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest.json is missing; get it back with `git checkout data/`"):
        shipped("orchard_agent.safetensors", tmp_path)
    shutil.copy(MANIFEST, tmp_path)
    with pytest.raises(UserError, match=r"orchard_agent.safetensors is missing; .*make_data.py"):
        shipped("orchard_agent.safetensors", tmp_path)
    (tmp_path / "orchard_agent.safetensors").write_bytes(b"half of it")
    with pytest.raises(UserError, match="is damaged"):
        shipped("orchard_agent.safetensors", tmp_path)
    with pytest.raises(
        UserError, match=r"no shipped file 'orchard_agent.safetensor' \(did you mean 'orchard_agent.safetensors'"
    ):
        shipped("orchard_agent.safetensor", tmp_path)


def test_without_a_clone_the_variable_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package lies elsewhere; one works elsewhere too, then in a clone, then with the variable set."""
    monkeypatch.delenv("DREAMER_DATA", raising=False)
    monkeypatch.setattr(data, "CLONE", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"installed without the files .* DREAMER_DATA"):
        shipped("orchard_episodes.npz")
    monkeypatch.chdir(ROOT / "notebooks")
    assert shipped("orchard_episodes.npz") == DATA / "orchard_episodes.npz"
    monkeypatch.setenv("DREAMER_DATA", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/manifest.json is missing"):
        shipped("orchard_episodes.npz")


USE = """
import sys
from pathlib import Path
import dreamer_helpers
assert Path(dreamer_helpers.__file__).is_relative_to(sys.argv[1]), dreamer_helpers.__file__
from dreamer_helpers import actor_critic, course, symlog, train, world_model
from dreamer_helpers.course.data import shipped
from dreamer_helpers.course.exercises import REGISTRY, load_lessons
from dreamer_helpers.errors import UserError
load_lessons()
print(*REGISTRY)
print(*course.lesson_modules("widgets"), *course.lesson_modules("data"))
try:
    print(shipped("orchard_episodes.npz"))
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_an_installed_package_has_what_it_needs(tmp_path: Path) -> None:
    """Built as a wheel and unpacked, as ``pip install .`` does it; nothing is fetched."""
    clone, target = tmp_path / "clone", tmp_path / "site"
    shutil.copytree(ROOT / "dreamer_helpers", clone / "dreamer_helpers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(target), str(clone)], check=True)
    installed = {path.relative_to(target) for path in (target / "dreamer_helpers").rglob("*.py")}
    assert installed == {path.relative_to(ROOT) for path in (ROOT / "dreamer_helpers").rglob("*.py")}

    def use(**more: str) -> list[str]:
        env = {**os.environ, "PYTHONPATH": str(target), **more}
        command = [sys.executable, "-c", USE, str(target)]
        return subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout.split(
            "\n"
        )

    names, folders, asked, _ = use()
    assert "symlog" in names.split()
    assert {"00", "01"} <= set(folders.split())
    assert asked.endswith("set the variable DREAMER_DATA to the clone's data folder")
    assert use(DREAMER_DATA=str(DATA))[2] == str(DATA / "orchard_episodes.npz")
