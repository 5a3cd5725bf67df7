"""Remake what ``data/`` ships for the lessons, its manifest, and the table in its README.

    python tools/make_data.py [FILE ...]

remakes the files named, or all. Lessons say how: ``MAKES`` in ``dreamer_helpers/course/lesson_NN/data.py`` maps names
of files to functions that write them. The manifest says of each file what it is, how it was made, its size and its
sha256, which loading checks.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dreamer_helpers import device
from dreamer_helpers.course import lesson_modules
from dreamer_helpers.course.data import DATA, MANIFEST, Origin

BEGIN, END = "<!-- files of lessons: written by tools/make_data.py -->", "<!-- end of files -->"


def makers() -> dict[str, Callable[[Path], Origin]]:
    """The function that makes each file, from the folders of all lessons."""
    return {name: make for module in lesson_modules("data").values() for name, make in module.MAKES.items()}


def enter(path: Path, origin: Origin, manifest: Path = MANIFEST) -> None:
    """Enter a file into the manifest as it is now."""
    content = path.read_bytes()
    entries = json.loads(manifest.read_text()) if manifest.exists() else {}
    entries[path.name] = {
        "what": origin.what, "made": f"python tools/make_data.py {path.name}: {origin.made}", "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(), "licence": "MIT, as the code",
    }  # fmt: skip
    manifest.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n")
    print(f"{path.name}: {len(content):,} bytes")


def with_table(readme: str, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """The README of ``data/`` with the table of the manifest's files between its two marks."""
    lines = ["| file of a lesson | what it is | made by |", "| --- | --- | --- |"]
    lines += [f"| `{name}` | {entry['what']} | {_code(entry['made'])} |" for name, entry in entries.items()]
    before, _, rest = readme.partition(BEGIN)
    return "\n".join([before + BEGIN, *lines, END]) + rest.partition(END)[2]


def _code(made: str) -> str:
    """How a file was made, its command as code."""
    return re.sub(r"^(.+?): ", r"`\1`: ", made)


def main(names: list[str]) -> int:
    """Make the files named, or all; returns the exit status."""
    makes = makers()
    if unknown := set(names) - set(makes):
        print(f"error: no {', '.join(sorted(unknown))}; there are {', '.join(makes)}", file=sys.stderr)
        return 2
    device.set_threads(1)
    for name in names or makes:
        enter(DATA / name, makes[name](DATA / name))
    readme = DATA / "README.md"
    readme.write_text(with_table(readme.read_text(), json.loads(MANIFEST.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
