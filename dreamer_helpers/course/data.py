"""The files that the course ships: checked before they are used."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dreamer_helpers.dreams import Episode
from dreamer_helpers.errors import UserError, did_you_mean

CLONE = Path(__file__).resolve().parent.parent.parent
"""The clone that this package lies in, unless it was installed away from it."""
DATA = CLONE / "data"
MANIFEST = DATA / "manifest.json"
REMEDY = "get it back with `git checkout data/`, or make it anew with `python tools/make_data.py`"


@dataclass(frozen=True)
class Origin:
    """What a shipped file is, and how it was made."""

    what: str
    made: str


def folder() -> Path:
    """Where the shipped files are: the variable DREAMER_DATA, else ``data/`` of the clone around package or notebook.

    Raises UserError if there is neither: a package that was installed without its clone has no data.
    """
    if chosen := os.environ.get("DREAMER_DATA"):
        return Path(chosen)
    for clone in (CLONE, Path.cwd(), Path.cwd().parent):
        if (clone / "pyproject.toml").exists() and (clone / "dreamer_helpers").is_dir():
            return clone / "data"
    raise UserError(
        "this copy of dreamer_helpers was installed without the files that lessons load; "
        "clone the course and set the variable DREAMER_DATA to the clone's data folder"
    )


def shipped(name: str, where: Path | None = None) -> Path:
    """The path of a shipped file. Raises UserError, saying how to get it back, if it is missing or damaged."""
    where = where or folder()
    manifest = where / MANIFEST.name
    if not manifest.exists():
        raise UserError(f"{manifest} is missing; {REMEDY}")
    entries = json.loads(manifest.read_text())
    if name not in entries:
        raise UserError(f"no shipped file {name!r}{did_you_mean(name, entries)}; there are {', '.join(entries)}")
    path = where / name
    if not path.exists():
        raise UserError(f"{path} is missing; {REMEDY}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != entries[name]["sha256"]:
        raise UserError(f"{path} is damaged: it is not the file of the manifest; {REMEDY}")
    return path


def recorded(name: str) -> list[Episode]:
    """The episodes of a shipped file. Raises UserError as :func:`shipped` does."""
    with np.load(shipped(name)) as file:  # without pickles, which is numpy's default
        arrays = dict(file)
    cuts = np.flatnonzero(arrays["is_first"])[1:]
    parts = {key: np.split(values, cuts) for key, values in arrays.items()}
    obs = {key.removeprefix("obs/"): values for key, values in parts.items() if key.startswith("obs/")}
    return [
        Episode({key: values[i] for key, values in obs.items()}, *(parts[name][i] for name in STEPS))
        for i in range(len(cuts) + 1)
    ]


def write_episodes(path: Path, episodes: list[Episode]) -> None:
    """Write episodes, one after the other, for :func:`recorded`."""
    arrays = {f"obs/{key}": np.concatenate([e.obs[key] for e in episodes]) for key in episodes[0].obs}
    arrays |= {name: np.concatenate([getattr(e, name) for e in episodes]) for name in STEPS}
    np.savez_compressed(path, **arrays)


STEPS = ("action", "reward", "is_first", "is_terminal")
"""What an episode has for each step, beside its observation."""
