"""What the tests of lessons share: attempts on exercises, judged as the notebook judges them, and explorers moved."""

from __future__ import annotations

import inspect
import io
import linecache
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dreamer_helpers.course.exercises import Exercise, Verdict, check, find
from dreamer_helpers.widgets import Explorer
from dreamer_helpers.widgets.base import VIEW

Right = Mapping[str, Sequence[str]]
"""Other right ways to write each exercise: whole cells."""
Mistakes = Mapping[str, Mapping[str, str]]
"""Plausible mistakes for each exercise, and what the message must say. A mistake is the body of the function, or a
whole cell that begins with def or class. In the words, a regular expression, parentheses and + are themselves."""
Explorers = Mapping[str, tuple[Callable[[], Explorer], dict[str, Any], str]]
"""For each explorer, by the name of its class: how to make one, values to set, and what it must then say."""


def written(source: str, **there: Any) -> Any:
    """What a learner's cell would define: source that inspect can find, with torch and what is ``there`` at hand."""
    source = textwrap.dedent(source).strip() + "\n"
    file = f"<cell {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    space = {"torch": torch, "nn": nn, "__name__": "__main__", **there}
    given = {*space, "__builtins__"}
    exec(compile(source, file, "exec"), space)
    return [value for key, value in space.items() if key not in given][-1]


def judged(name: str, source: str) -> Verdict:
    """What the checks of an exercise say to a cell in which the exercises that it may use are there."""
    entry = find(name)
    return check(entry, written(source, **{used: find(used).reference for used in entry.uses}))


def cell(entry: Exercise, body: str) -> str:
    """A cell whose function, with the parameters of the reference, has this body; a whole cell is left as it is."""
    if body.lstrip().startswith(("def ", "class ")):
        return body
    parameters = inspect.signature(entry.reference).parameters.values()
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return f"def {entry.name}{inspect.Signature(plain)}:\n{textwrap.indent(body, '    ')}"


def right_answers(answers: Right) -> pytest.MarkDecorator:
    """Parametrize a test by ``name`` and ``source`` of each right answer."""
    cases = [(name, source) for name, sources in answers.items() for source in sources]
    return pytest.mark.parametrize(("name", "source"), cases)


def wrong_answers(mistakes: Mistakes) -> pytest.MarkDecorator:
    """Parametrize a test by ``name``, ``body`` and ``words`` of each mistake."""
    cases = [(name, body, words) for name, bodies in mistakes.items() for body, words in bodies.items()]
    return pytest.mark.parametrize(("name", "body", "words"), cases)


def explorers(table: Explorers) -> pytest.MarkDecorator:
    """Parametrize a test by ``make``, ``values`` and ``words`` of each explorer."""
    return pytest.mark.parametrize(("make", "values", "words"), list(table.values()), ids=list(table))


def assert_right(name: str, source: str) -> None:
    """Fail unless the checks take this cell."""
    verdict = judged(name, source)
    assert verdict.state == "passed", verdict.message


def assert_named(name: str, body: str, words: str) -> None:
    """Fail unless the checks turn this mistake down, in one line that says what is wrong."""
    verdict = judged(name, cell(find(name), body))
    assert verdict.state == "wrong"
    plain = words.replace("(", r"\(").replace(")", r"\)").replace("+", r"\+")
    assert re.search(plain, verdict.message), verdict.message
    assert "\n" not in verdict.message


def pixels(png: bytes) -> np.ndarray:
    """A PNG as an array (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def assert_moves(make: Callable[[], Explorer], values: Mapping[str, Any], words: str) -> None:
    """Fail unless an explorer, set to the values, draws something else, says the words, and leaves a still picture."""
    explorer = make()
    before = pixels(explorer.picture.value)
    assert before.std() > 5, "there is nothing to see"
    assert explorer.set(**values) is explorer
    assert words in explorer.alt, explorer.alt
    assert words in explorer.words.value
    assert words in explorer.picture.tooltip
    after = pixels(explorer.picture.value)
    assert after.shape == before.shape
    assert (after != before).any(), "nothing moved"
    np.testing.assert_array_equal(pixels(explorer.still()), after)
    assert set(explorer.bundle()) == {VIEW, "text/html", "text/plain"}
