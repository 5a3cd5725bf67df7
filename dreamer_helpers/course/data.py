"""The files that the course ships: checked before they are used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dreamer_helpers.errors import UserError, did_you_mean

DATA = Path(__file__).resolve().parent.parent.parent / "data"
MANIFEST = DATA / "manifest.json"
REMEDY = "get it back with `git checkout data/`, or make it anew with `python tools/make_data.py`"


def shipped(name: str, folder: Path = DATA) -> Path:
    """The path of a shipped file. Raises UserError, saying how to get it back, if it is missing or damaged."""
    manifest = folder / MANIFEST.name
    if not manifest.exists():
        raise UserError(f"{manifest} is missing; {REMEDY}")
    entries = json.loads(manifest.read_text())
    if name not in entries:
        raise UserError(f"no shipped file {name!r}{did_you_mean(name, entries)}; there are {', '.join(entries)}")
    path = folder / name
    if not path.exists():
        raise UserError(f"{path} is missing; {REMEDY}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != entries[name]["sha256"]:
        raise UserError(f"{path} is damaged: it is not the file of the manifest; {REMEDY}")
    return path
