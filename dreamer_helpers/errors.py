"""Errors that are the user's to mend: one line that names the mistake and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user, told in one line. The command line prints the line and ends with status 2."""


def require(holds: bool, message: str) -> None:
    """Raise UserError with this line unless something holds."""
    if not holds:
        raise UserError(message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` if a known name is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
