"""Errors that are the user's to mend, one line that names the mistake and the remedy; and being stopped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake of the user, told in one line. The command line prints the line and ends with status 2."""


class Stopped(KeyboardInterrupt):
    """A training was stopped by a signal; everything is saved. ``signal`` is its number."""

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal = signal_number


def require(holds: bool, message: str) -> None:
    """Raise UserError with this line unless something holds."""
    if not holds:
        raise UserError(message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"`` if a known name is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
