"""The exercise machine, and the checks of every exercise: right answers pass, planted mistakes are named."""

from __future__ import annotations

import json
import linecache
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dreamer_helpers.course import exercises
from dreamer_helpers.course.exercises import REGISTRY, Exercise, check, exercise, is_stub, load_lessons, scoreboard
from dreamer_helpers.course.passport import Passport
from dreamer_helpers.errors import UserError
from dreamer_helpers.symlog import symlog

load_lessons()


@pytest.fixture(autouse=True)
def own_passport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A passport and a memory of its own for every test."""
    monkeypatch.setenv("COURSE_PASSPORT", str(tmp_path / "passport.json"))
    monkeypatch.delenv("COURSE_EXERCISES", raising=False)
    exercises.STATES.clear()
    exercises.HINTS_SEEN.clear()
    yield tmp_path / "passport.json"


def written(source: str) -> Any:
    """What a learner's cell would define: source that inspect can find, with torch at hand."""
    source = textwrap.dedent(source).strip() + "\n"
    file = f"<cell {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    space: dict[str, Any] = {"torch": torch, "nn": nn, "__name__": "__main__"}
    exec(compile(source, file, "exec"), space)
    return [value for key, value in space.items() if key not in ("torch", "nn") and not key.startswith("__")][-1]


# ------------------------------------------------------------------------- the checks of every exercise

INDEPENDENT = {
    "symlog": "def symlog(x):\n    return torch.log1p(x.clamp(min=0)) - torch.log1p(-x.clamp(max=0))",
    "symexp": "def symexp(x):\n    return torch.expm1(x.clamp(min=0)) - torch.expm1(-x.clamp(max=0))",
    "symlog_slope": "def symlog_slope(x):\n    return (x.abs() + 1) ** -1",
    "symexp_bins": """
        def symexp_bins(n=255, limit=20.0):
            grid = torch.linspace(-limit, limit, n, dtype=torch.float64)
            grid = (grid - grid.flip(0)) / 2
            return (grid.sign() * grid.abs().expm1()).float()
    """,
    "two_hot_encoding": """
        def two_hot_encoding(x, bins):
            x = x.clamp(bins[0], bins[-1])[..., None]
            gaps = bins.diff()
            rising = ((x - bins[:-1]) / gaps).clamp(0, 1)  # how far x is past each gap
            one = torch.ones_like(x)
            return torch.cat([one, rising], -1) - torch.cat([rising, 0 * one], -1)
    """,
    "two_hot_loss": """
        def two_hot_loss(logits, target, bins):
            target = two_hot_encoding(target, bins).detach()
            return torch.logsumexp(logits, -1) - (target * logits).sum(-1)
    """,
    "two_hot_mean": """
        def two_hot_mean(logits, bins):
            terms = logits.softmax(-1) * bins
            return ((terms + terms.flip(-1)) / 2).sum(-1)
    """,
}
"""Another right way to write each exercise."""

SIGNATURES = {
    "symexp_bins": "n=255, limit=20.0", "two_hot_encoding": "x, bins", "two_hot_loss": "logits, target, bins",
    "two_hot_mean": "logits, bins",
}  # fmt: skip

MISTAKES = {
    "symlog": {
        "return torch.log(1 + x)": r"symlog(\[-1.0\])",
        "return torch.log1p(torch.abs(x))": r"symlog(\[-1.0\]) gave 0.6931, and -0.6931 is right",
        "return torch.sign(x) * torch.log(torch.abs(x))": r"symlog(\[0.0\])",
        "return torch.sign(x) * torch.log(1 + torch.abs(x))": "near 0 symlog is the identity",
        "return torch.sign(x) * torch.log10(1 + torch.abs(x))": r"symlog(\[1.0\]) gave 0.301, and 0.6931 is right",
        "torch.sign(x) * torch.log1p(torch.abs(x))": "gave None: is there a `return`",
        "return (torch.sign(x) * torch.log1p(torch.abs(x))).detach()": "no gradient flows back",
        "return torch.tensor([v.sign() * v.abs().log1p() for v in x.flatten()]).reshape(x.shape)": "no gradient|GPU",
        "return float(x.sum())": "gave float, not a tensor",
        "return (torch.sign(x) * torch.log1p(torch.abs(x))).float()": "is of type torch.float32, not torch.float64",
        "return x.sign_() * torch.log1p(x.abs_())": "changed its input",
        "return torch.sing(x)": "AttributeError.*in the line `return torch.sing",
    },
    "symexp": {
        "return torch.exp(x) - 1": r"symexp(\[-1.0\])",
        "return torch.sign(x) * torch.exp(torch.abs(x))": r"symexp(\[1.0\]) gave 2.718, and 1.718 is right",
        "return torch.sign(x) * (torch.exp(torch.abs(x)) - 1)": "subtracting 1 yourself leaves nothing",
        "return torch.sign(x) * torch.expm1(x)": r"symexp(\[-1.0\]) gave 0.6321, and -1.718 is right",
        "return torch.expm1(torch.abs(x))": r"symexp(\[-1.0\]) gave 1.718, and -1.718 is right",
        "return torch.sign(x) * torch.expm1(torch.abs(x)).clamp(max=1e6)": r"symexp(symlog(-1e+08)) gave -1e+06",
    },
    "symlog_slope": {
        "return 1 / (1 + x)": r"symlog_slope(\[-1.0\]) gave inf",
        "return 1 / x.abs()": r"symlog_slope(\[0.0\]) gave inf",
        "return torch.sign(x) / (1 + torch.abs(x))": r"symlog_slope(\[0.0\]) gave 0.0, and 1.0 is right",
        "return 1 / (1 + x ** 2)": r"symlog_slope(\[3.0\]) gave 0.1, and 0.25 is right",
        "return torch.log1p(torch.abs(x))": r"symlog_slope(\[0.0\]) gave 0.0, and 1.0 is right",
    },
    "symexp_bins": {
        "return torch.linspace(-limit, limit, n)": "the largest of symexp_bins(255) is 20, and symexp(20)",
        "y = torch.linspace(-limit, limit, n); return y.sign() * y.abs().expm1()": "not exactly antisymmetric",
        "y = torch.linspace(-limit, limit, n); return y.exp() - 1": r"symexp_bins(255) has -1 at 0|does not rise",
        "y = torch.linspace(0, limit, n); return y.expm1()": "has 0 at 0, and -4.85",
        "y = torch.linspace(-20, 0, n // 2 + n % 2).abs().expm1(); return torch.cat([-y, y[: n // 2].flip(0)])": r"symexp_bins(5, 2.0) ends at 4.85165e+08, and symexp(2)",
        "y = torch.linspace(-limit, 0, n // 2).abs().expm1(); return torch.cat([-y, y.flip(0)])": r"has shape (254,), not (255,)",
        "y = torch.linspace(0, limit, n // 2 + 1).expm1(); return torch.cat([-y.flip(0), y])": "has shape",
    },
    "two_hot_encoding": {
        "return torch.nn.functional.one_hot((x[..., None] - bins).abs().argmin(-1), len(bins)).float()": "gave 1.0 at .0, 2., and 0.75 is right",
        "i = torch.searchsorted(bins, x, right=True); w = (x - bins[i - 1]) / (bins[i] - bins[i - 1]); "
        "return torch.zeros(*x.shape, len(bins)).scatter(-1, (i - 1)[..., None], (1 - w)[..., None])": "gave 0.0 at .0, 3., and 0.25 is right",
        "d = 1 / ((x[..., None] - bins).abs() + 1e-6); return d / d.sum(-1, keepdim=True)": "is right",
        "i = torch.searchsorted(bins, x, right=True).clamp(1, 4); w = (x - bins[i - 1]) / (bins[i] - bins[i - 1]); "
        "e = torch.zeros(*x.shape, len(bins)); e.scatter_(-1, (i - 1)[..., None], (1 - w)[..., None]); "
        "return e.scatter_(-1, i[..., None], w[..., None])": r"two_hot_encoding(\[99.0\]",
        "i = torch.searchsorted(bins, x, right=True).clamp(1, 4); w = (x - bins[i - 1]) / (bins[i] - bins[i - 1]); "
        "e = torch.zeros(*x.shape, len(bins)); e.scatter_(-1, (i - 1)[..., None], w[..., None]); "
        "return e.scatter_(-1, i[..., None], (1 - w)[..., None])": r"two_hot_encoding(\[2.0\]",
    },
    "two_hot_loss": {
        "return -(two_hot_encoding(target, bins) * torch.softmax(logits, -1).log()).sum(-1)": "log_softmax",
        "return (two_hot_encoding(target, bins) * torch.log_softmax(logits, -1)).sum(-1)": "gave -1.609, and 1.609",
        "return -(two_hot_encoding(target, bins) * torch.log_softmax(logits, -1)).mean(-1)": "gave 0.3219",
        "return -(two_hot_encoding(target, bins) * torch.log_softmax(logits, -1)).sum()": "has shape",
        "return -(two_hot_encoding(target, bins) * torch.log_softmax(logits, 0)).sum(-1)": "and 1.609 is right",
        "return -(two_hot_encoding(target, bins) * torch.log_softmax(logits, -1)).sum(-1)": "a gradient reaches the target",
        "return -(two_hot_encoding(target.detach(), bins) * torch.log_softmax(logits.detach(), -1)).sum(-1)": "no gradient reaches the logits",
    },
    "two_hot_mean": {
        "return (torch.softmax(logits, -1) * bins).sum(-1)": "flat logits over symexp_bins(255) mean",
        "return (logits * bins).sum(-1)": "is right",
        "return bins[logits.argmax(-1)]": "is right",
        "return (torch.softmax(logits, 0) * bins).sum(-1)": "is right",
        "return (torch.softmax(logits, -1) * bins).mean(-1)": "is right",
        "t = torch.softmax(logits, -1) * bins; h = len(bins) // 2; "
        "return (t[..., :h].flip(-1) + t[..., len(bins) - h :]).sum(-1)": "is right",
    },
}
"""Plausible mistakes, by the body of the function, and what the message must say."""


def test_every_exercise_is_here() -> None:
    assert set(INDEPENDENT) == set(MISTAKES) == set(REGISTRY)
    assert all(len(mistakes) >= 5 for mistakes in MISTAKES.values())
    for entry in REGISTRY.values():
        assert len(entry.hints) >= 2
        assert entry.minutes > 0
        assert entry.reference.__module__.startswith("dreamer_helpers.")
        assert not entry.reference.__module__.startswith("dreamer_helpers.course")


@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_reference_passes(name: str) -> None:
    assert check(REGISTRY[name], REGISTRY[name].reference).state == "passed"


@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_reference_passes_as_a_cell(name: str) -> None:
    """Written into the notebook, as the teacher's set has it."""
    attempt = written("from __future__ import annotations\n" + exercises.reference_source(REGISTRY[name]))
    assert check(REGISTRY[name], attempt).state == "passed"


@pytest.mark.parametrize("name", list(INDEPENDENT))
def test_another_right_answer_passes(name: str) -> None:
    attempt = written(INDEPENDENT[name])
    attempt.__globals__.update({used: REGISTRY[used].reference for used in REGISTRY[name].uses})
    verdict = check(REGISTRY[name], attempt)
    assert verdict.state == "passed", verdict.message


@pytest.mark.parametrize(
    ("name", "body", "words"), [(name, *mistake) for name, mistakes in MISTAKES.items() for mistake in mistakes.items()]
)
def test_planted_mistakes_are_named(name: str, body: str, words: str) -> None:
    attempt = written(f"def {name}({SIGNATURES.get(name, 'x')}):\n    {body}")
    attempt.__globals__.update({used: REGISTRY[used].reference for used in REGISTRY[name].uses})
    verdict = check(REGISTRY[name], attempt)
    assert verdict.state == "wrong"
    plain = words.replace("(", r"\(").replace(")", r"\)").replace("+", r"\+")
    assert re.search(plain, verdict.message), verdict.message
    assert "\n" not in verdict.message


# -------------------------------------------------------------------------------------------- the machine


STUBS = [
    "def f(x):\n    ...",
    'def f(x):\n    """What it should do."""',
    "def f(x):\n    pass",
    "def f(x):\n    y = ...\n    return y + x",
    "def f(x):\n    return ...",
    "def f(x):\n    if x > 0:\n        return x\n    raise NotImplementedError",
    'def f(x):\n    raise NotImplementedError("your turn")',
    "def f(x):\n    y: int = ...\n    return y",
]


@pytest.mark.parametrize("source", STUBS)
def test_stubs_are_recognised(source: str) -> None:
    assert is_stub(written(source))
    indented = textwrap.indent(source.replace("(x)", "(self, x)"), "    ")
    assert is_stub(written(f"class C(nn.Module):\n{indented}"))


@pytest.mark.parametrize(
    "source", ["def f(x):\n    return x[..., 0]", "def f(x):\n    return x", "def f(x, *, y=...):\n    return x"]
)
def test_what_is_written_is_no_stub(source: str) -> None:
    assert not is_stub(written(source))


def test_only_the_methods_to_be_written_count() -> None:
    cell = """
    class C(nn.Module):
        def __init__(self):
            super().__init__()

        def forward(self, x):
            return x

        def later(self):
            raise NotImplementedError
    """
    assert is_stub(written(cell))
    assert not is_stub(written(cell), ["forward"])
    assert is_stub(written(cell), ["later"])


def test_a_stub_gives_the_reference_and_one_quiet_line(capsys: pytest.CaptureFixture[str], own_passport: Path) -> None:
    assert exercise("symlog")(written("def symlog(x):\n    ...")) is symlog
    assert capsys.readouterr().out == "exercise symlog: not attempted yet; the course's own is used\n"
    assert not own_passport.exists()


def test_a_right_answer_is_used_and_kept(capsys: pytest.CaptureFixture[str], own_passport: Path) -> None:
    mine = written(INDEPENDENT["symlog"])
    assert exercise("symlog")(mine) is mine
    assert capsys.readouterr().out == "exercise symlog: right; yours is used from here on\n"
    assert Passport.load().sources["symlog"].strip() == INDEPENDENT["symlog"]
    assert repr(scoreboard("01")).splitlines()[:2] == ["1 of 3 parts are yours", f"{'symlog':<24}yours"]
    exercises.reset("symlog")
    assert Passport.load().sources == {}
    assert repr(scoreboard("01")).startswith("0 of 3")


def test_a_wrong_answer_is_explained_and_the_reference_stands_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert exercise("symlog")(written("def symlog(x):\n    return torch.log1p(torch.abs(x))")) is symlog
    assert capsys.readouterr().out.splitlines() == [
        "exercise symlog: not right yet; the course's own is used",
        "symlog([-1.0]) gave 0.6931, and -0.6931 is right",
        "hint('symlog') gives a hint, show_solution('symlog') the answer.",
    ]


def test_what_leans_on_another_cell_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    source = "def symlog(x):\n    return torch.sign(x) * helper(x)"
    attempt = written(source)
    attempt.__globals__["helper"] = lambda x: torch.log1p(torch.abs(x))
    verdict = check(REGISTRY["symlog"], attempt)
    assert verdict.state == "wrong"
    assert "It works here, but not by itself" in verdict.message
    assert verdict.message.endswith("Define or import helper inside of it.")


def test_modes_for_continuous_integration(monkeypatch: pytest.MonkeyPatch, own_passport: Path) -> None:
    stub, mine = written("def symlog(x):\n    ..."), written(INDEPENDENT["symlog"])
    monkeypatch.setenv("COURSE_EXERCISES", "reference")
    assert exercise("symlog")(mine) is symlog
    monkeypatch.setenv("COURSE_EXERCISES", "strict")
    assert exercise("symlog")(mine) is mine
    with pytest.raises(AssertionError, match="not attempted yet"):
        exercise("symlog")(stub)
    with pytest.raises(AssertionError, match=r"and -0.6931 is right"):
        exercise("symlog")(written("def symlog(x):\n    return torch.log1p(torch.abs(x))"))
    assert not own_passport.exists()  # nobody's passport is written by a machine
    monkeypatch.setenv("COURSE_EXERCISES", "strikt")
    with pytest.raises(UserError, match="empty, strict or reference, not 'strikt'"):
        exercise("symlog")


def test_a_typing_mistake_in_the_name_is_told() -> None:
    with pytest.raises(UserError, match=r"no exercise 'simlog' \(did you mean 'symlog'\?\)"):
        exercise("simlog")
    with pytest.raises(UserError, match="no lesson '99' with exercises"):
        scoreboard("99")
    with pytest.raises(ValueError, match="'symlog' already"):
        exercises.register(REGISTRY["symlog"])


def test_hints_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        exercises.hint("symlog")
        assert capsys.readouterr().out.startswith(f"Hint {number} of 3: ")
    exercises.hint("symlog")
    assert capsys.readouterr().out.count("\n* ") == 3


def test_the_solution_is_the_reference_folded() -> None:
    solution = exercises.show_solution("symlog")
    assert "torch.sign(x) * torch.log1p(torch.abs(x))" in repr(solution)
    assert solution._repr_html_().startswith("<details>")
    verdict = exercises.Verdict("symlog", "wrong", "1 < 2")
    assert "1 &lt; 2" in verdict._repr_html_()


def test_a_class_can_be_an_exercise() -> None:
    """An nn.Module written in a cell: judged by its behaviour, kept by its source."""

    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    def doubles(kind: type[nn.Module]) -> None:
        got = kind()(torch.ones(1)).item()
        if got != 2.0:
            raise AssertionError(f"Twice()([1.0]) gave {got}, and 2.0 is right")

    entry = Exercise("Twice", "00", Twice, (doubles,), ("Add it to itself.",), 1, methods=("forward",))
    right = "class Twice(nn.Module):\n    def forward(self, x):\n        return x + x"
    assert check(entry, written(right)).state == "passed"
    assert check(entry, written(right.replace("x + x", "x"))).message == "Twice()([1.0]) gave 1.0, and 2.0 is right"
    assert is_stub(written(right.replace("return x + x", "...")), ["forward"])


# ------------------------------------------------------------------------------------------------ passport


def test_the_passport_travels_as_text(tmp_path: Path) -> None:
    one, two = Passport(tmp_path / "one.json"), Passport(tmp_path / "two.json")
    one.add("symlog", "def symlog(x): ...\n")
    two.add("symexp", "def symexp(x): ...\n")
    assert two.import_json(one.export_json()) == ["symlog"]
    assert set(Passport.load(tmp_path / "two.json").sources) == {"symlog", "symexp"}
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one.json", "two.json"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"format": "dreamer-helpers passport", "sources": [1]})])
def test_a_damaged_passport_is_told_and_left_alone(text: str, own_passport: Path) -> None:
    own_passport.write_text(text)
    with pytest.raises(UserError, match="passport"):
        exercise("symlog")(written(INDEPENDENT["symlog"]))
    assert own_passport.read_text() == text


def test_a_passport_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the passport .* set COURSE_PASSPORT"):
        Passport(tmp_path / "file" / "passport.json").add("symlog", "")
