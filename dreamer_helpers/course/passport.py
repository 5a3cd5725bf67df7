"""The learner's passport: the source of every exercise that passed, in a file that is the learner's own."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from dreamer_helpers.errors import UserError

FORMAT = "dreamer-helpers passport"


def place() -> Path:
    """Where the passport is: the variable COURSE_PASSPORT, else ``passport.json`` in the folder of the notebook."""
    return Path(os.environ.get("COURSE_PASSPORT", "passport.json"))


@dataclass
class Passport:
    """What passed: ``sources`` maps the name of an exercise to the learner's source."""

    path: Path
    sources: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path | None = None) -> Passport:
        """Read the passport; an empty one if there is none yet. Raises UserError for a file that is none."""
        path = Path(path) if path else place()
        if not path.exists():
            return cls(path)
        return cls(path, _parse(path.read_text(), str(path)))

    def add(self, name: str, source: str) -> None:
        """Keep a source and write the file."""
        self.sources[name] = source
        self._write()

    def remove(self, name: str) -> None:
        """Forget a source, if it is there."""
        if self.sources.pop(name, None) is not None:
            self._write()

    def export_json(self) -> str:
        """All of it as text, to take along: Colab forgets its files."""
        return json.dumps({"format": FORMAT, "version": 1, "sources": self.sources}, indent=1)

    def import_json(self, text: str) -> list[str]:
        """Take over what :meth:`export_json` gave; returns the names. Raises UserError for another text."""
        added = _parse(text, "this text")
        self.sources |= added
        self._write()
        return list(added)

    def _write(self) -> None:
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            partial.write_text(self.export_json() + "\n")
            partial.replace(self.path)
        except OSError as error:
            raise UserError(
                f"cannot write the passport {self.path}: {error.strerror}; set COURSE_PASSPORT to another file"
            ) from None


def _parse(text: str, where: str) -> dict[str, str]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is damaged or no passport: {error}") from None
    sources = content.get("sources") if isinstance(content, dict) and content.get("format") == FORMAT else None
    if not isinstance(sources, dict) or not all(isinstance(source, str) for source in sources.values()):
        raise UserError(f"{where} is no passport of this course")
    return sources
