"""Attempts as learners write them, in the cells of a notebook: what is taken, what is told, what is left behind."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

import dreamer_helpers.symlog
from dreamer_helpers.course import exercises, judging
from dreamer_helpers.course.attempts import bound_names, constant, imported, needed_names
from dreamer_helpers.course.exercises import REGISTRY, load_lessons, once_more, reference_source
from dreamer_helpers.course.passport import Passport
from dreamer_helpers.symlog import symexp, symlog

load_lessons()
PRELUDE = """
import math
import numpy as np, torch, torch.nn.functional as F
from torch import nn
from dreamer_helpers.course.exercises import exercise, hint, reset, scoreboard, show_solution
from dreamer_helpers.symlog import symexp, symlog, two_hot_encoding
"""
GOOD = "torch.sign(x) * torch.log1p(torch.abs(x))"
ATTEMPT = f"@exercise('symlog')\ndef symlog(x):\n    return {GOOD}"


class Notebook:
    """A kernel without a browser: cells run one after the other, and what they show is kept."""

    def __init__(self) -> None:
        InteractiveShell.clear_instance()
        self.shell = InteractiveShell.instance()
        self.shown: list[str] = []
        shown = self.shown

        class Keep(DisplayPublisher):
            def publish(self, data: dict[str, Any], *_: Any, **__: Any) -> None:
                shown.append(str(data.get("text/plain", "")))

        self.shell.display_pub = Keep()
        self.run(PRELUDE)

    def run(self, cell: str) -> BaseException | None:
        """Run a cell; the error that it ends in."""
        self.shown.clear()
        result = self.shell.run_cell(cell, store_history=True)
        return result.error_before_exec or result.error_in_exec

    def __getitem__(self, name: str) -> Any:
        return self.shell.user_ns.get(name)

    @property
    def said(self) -> str:
        """What the last cell showed."""
        return "\n".join(self.shown)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A notebook with an empty passport."""
    monkeypatch.setenv("COURSE_PASSPORT", str(tmp_path / "passport.json"))
    monkeypatch.delenv("COURSE_EXERCISES", raising=False)
    for memory in (exercises.STATES, exercises.HINTS_SEEN, exercises.TAKEN):
        memory.clear()
    yield Notebook()
    InteractiveShell.clear_instance()


# ------------------------------------------------------------------------------------------- any style is taken


STYLES: dict[str, tuple[str, ...]] = {
    "a lambda": (f"symlog = exercise('symlog')(lambda x: {GOOD})",),
    "a lambda over lines": (f"symlog = exercise('symlog')(\n    lambda x: (\n        {GOOD}\n    )\n)",),
    "a function that was there": (f"def mine(x):\n    return {GOOD}", "symlog = exercise('symlog')(mine)"),
    "not bound to a name": (f"def mine(x):\n    return {GOOD}\nexercise('symlog')(mine)",),
    "a helper of another cell": ("def size(x):\n    return torch.log1p(x.abs())",
                                 "@exercise('symlog')\ndef symlog(x):\n    return x.sign() * size(x)"),
    "a helper of a helper": ("import torch as th\ndef grow(x):\n    return th.log1p(x)", "size = lambda x: grow(x.abs())",
                             "@exercise('symlog')\ndef symlog(x):\n    return x.sign() * size(x)"),
    "a helper written anew": ("def size(x):\n    return x", "def size(x):\n    return torch.log1p(x.abs())",
                              "@exercise('symlog')\ndef symlog(x):\n    return x.sign() * size(x)"),
    "a helper named as a builtin": ("def abs(x):\n    return x * x.sign()",
                                    "@exercise('symlog')\ndef symlog(x):\n    return x.sign() * abs(x).log1p()"),
    "constants": ("ONE, TABLE = 1.0, {'a': (1, 2.5), 'b': [float('inf')]}", "KIND = torch.float32",
                  "@exercise('symlog')\ndef symlog(x, one=ONE):\n    assert TABLE and KIND\n    return one * x.sign() * x.abs().log1p()"),
    "a tensor made in steps": ("SCALE = torch.ones(())", "SCALE = SCALE / 2", "SCALE = SCALE * 2",
                               "@exercise('symlog')\ndef symlog(x):\n    return SCALE.to(x) * x.sign() * x.abs().log1p()"),
    "an import in its cell": ("from torch import log1p as lp, sign\n@exercise('symlog')\ndef symlog(x):\n    return sign(x) * lp(x.abs())",),
    "a decorator with wraps": ("import functools\ndef twice(f):\n    @functools.wraps(f)\n    def inner(*a):\n        f(*a)\n        return f(*a)\n    return inner",
                               f"@exercise('symlog')\n@twice\ndef symlog(x):\n    return {GOOD}"),
    "a decorator without": (f"def same(f):\n    def inner(*a):\n        return f(*a)\n    return inner\n@exercise('symlog')\n@same\ndef symlog(x):\n    return {GOOD}",),
    "a closure": (f"def make(by):\n    def inner(x):\n        return {GOOD} / by\n    return inner", "symlog = exercise('symlog')(make(1.0))"),
    "a partial": (f"from functools import partial\ndef g(by, x):\n    return {GOOD} / by\nsymlog = exercise('symlog')(partial(g, 1.0))",),
    "a module": (f"class S(nn.Module):\n    def forward(self, x):\n        return {GOOD}", "symlog = exercise('symlog')(S())"),
    "an object": (f"class S:\n    by = 1\n    def __call__(self, x):\n        return {GOOD} / self.by\nsymlog = exercise('symlog')(S())",),
    "a method": (f"class S:\n    def f(self, x):\n        return {GOOD}\nsymlog = exercise('symlog')(S().f)",),
    "recursion": ("@exercise('symlog')\ndef symlog(x, deep=2):\n    return symlog(x, deep - 1) if deep else " + GOOD,),
    "a timed cell": (f"%%time\n{ATTEMPT}",),
    "a timed cell that ends in a value": (f"%%time\n{ATTEMPT}\nsymlog(torch.ones(2))",),
    "a captured cell": (f"%%capture out\n{ATTEMPT}",),
    "a magic in the cell": (f"%time 1 + 1\n{ATTEMPT}\n!true",),
    "a form feed": (f"@exercise('symlog')\ndef symlog(x):\n    s = torch.sign(x)\x0c\n    return {GOOD}",),
    "behind a semicolon": (f"a = 1; symlog = exercise('symlog')(lambda x: {GOOD}); b = 2",),
    "in a branch": (f"if True:\n    @exercise('symlog')\n    def symlog(x):\n        return {GOOD}",),
    "with dots in front": (f"@exercise('symlog')\ndef symlog(x):\n    ...\n    return {GOOD}",),
    "with dots behind": (f"@exercise('symlog')\ndef symlog(x):\n    return {GOOD}\n    ...",),
    "with a guard": (f"@exercise('symlog')\ndef symlog(x):\n    if x is None:\n        raise NotImplementedError\n    return {GOOD}",),
    "masks": ("@exercise('symlog')\ndef symlog(x):\n    y = x.clone()\n    y[x > 0] = x[x > 0].log1p()\n    y[x < 0] = -(-x[x < 0]).log1p()\n    return y",),
    "mapped": ("@exercise('symlog')\ndef symlog(x):\n    f = torch.vmap(lambda v: v.sign() * v.abs().log1p())\n    return f(x.reshape(-1)).reshape(x.shape)",),
    "with prints": (f"@exercise('symlog')\ndef symlog(x):\n    print(x)\n    return {GOOD}",),
    "under another name of exercise": (f"from dreamer_helpers.course import exercises as e\n@e.exercise('symlog')\ndef symlog(x):\n    return {GOOD}",),
    "in a notebook without gradients": ("torch.set_grad_enabled(False)", ATTEMPT, "torch.set_grad_enabled(True)"),
    "in a notebook of float64": ("torch.set_default_dtype(torch.float64)", ATTEMPT, "torch.set_default_dtype(torch.float32)"),
}  # fmt: skip


@pytest.mark.parametrize("style", list(STYLES))
def test_a_right_attempt_in_any_style_is_taken_and_kept(style: str, notebook: Notebook) -> None:
    for cell in STYLES[style]:
        assert notebook.run(cell) is None, cell
    assert notebook["symlog"] is not symlog, notebook.said
    assert exercises.STATES["symlog"] == "passed"
    source = Passport.load().sources["symlog"]
    assert "exercise" not in source
    verdict, piece = once_more(REGISTRY["symlog"], source)
    assert verdict.state == "passed", verdict.message
    assert piece is not symlog


def test_what_has_no_source_is_used_and_not_kept(notebook: Notebook) -> None:
    notebook.run("exec(compile('def mine(x): return x.sign() * x.abs().log1p()', '<nowhere>', 'exec'))")
    notebook.run("symlog = exercise('symlog')(mine)")
    assert notebook["symlog"] is notebook["mine"]
    assert "right; yours is used" in notebook.said
    assert "for your passport it cannot be kept, as it uses `mine`, whose source cannot be found" in notebook.said
    assert Passport.load().sources == {}


@pytest.mark.parametrize(
    "cell",
    [
        "@exercise('symlog')\ndef symlog(x):\n    return symlog(x)",  # the name is its own, no longer the course's
        "ready = symlog\n@exercise('symlog')\ndef symlog(x):\n    return ready(x)",
        "symlog = exercise('symlog')(symlog)",
    ],
)
def test_the_courses_own_is_nobodys_answer(cell: str, notebook: Notebook) -> None:
    notebook.run(cell)
    assert notebook["symlog"] is symlog
    assert "right; yours" not in notebook.said


# ------------------------------------------------------------------------------------------------- what waits


def test_dots_beside_code_are_named(notebook: Notebook) -> None:
    notebook.run("@exercise('symlog')\ndef symlog(x):\n    size = ...\n    sign = x.sign()\n    return sign * size")
    assert "not right yet" in notebook.said
    assert "The line `size = ...` still waits in it." in notebook.said
    notebook.run("@exercise('symlog')\ndef symlog(x):\n    sign = ...\n    size = ...\n    return sign * size")
    assert notebook.said == "exercise symlog: not attempted yet; the course's own is used"
    notebook.run("symlog = exercise('symlog')(lambda x: ...)")
    assert notebook.said == "exercise symlog: not attempted yet; the course's own is used"


# ---------------------------------------------------------------------------------------- nothing is left behind


@pytest.mark.parametrize(
    "body",
    [
        "import sys; sys.exit(3)", "raise KeyboardInterrupt", "raise SystemExit", "raise GeneratorExit", "1 / 0", "x.nothing",
        "while True: pass", "while True:\n    try:\n        while True: pass\n    except Exception: pass",
        "return symlog", "yield x",
    ],
)  # fmt: skip
def test_whatever_it_does_the_name_is_the_courses(
    body: str, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "SECONDS", 0.5)
    inner = body.replace("\n", "\n    ")
    assert notebook.run(f"@exercise('symlog')\ndef symlog(x):\n    {inner}") is None
    assert notebook["symlog"] is symlog
    assert "not right yet; the course's own is used" in notebook.said
    if "while" in body:
        assert "it was stopped after 0.5 seconds, in the line `while True: pass`" in notebook.said


@pytest.mark.parametrize(
    "cell",
    [
        "@exercise('symlog')\n@nothing\ndef symlog(x):\n    return x",
        "@exercise('symlog')\ndef symlog(x, y=nothing):\n    return x",
        "def bad(f):\n    raise KeyboardInterrupt\n@exercise('symlog')\n@bad\ndef symlog(x):\n    return x",
        "symlog = exercise('symlog')(nothing)",
    ],
)
def test_an_error_at_the_definition_leaves_the_courses_own(cell: str, notebook: Notebook) -> None:
    notebook.run("symlog = None")
    assert notebook.run(cell) is not None
    assert notebook["symlog"] is symlog


POISON = {
    "torch.set_grad_enabled(False)": "the gradient mode",
    "torch.set_default_dtype(torch.float64)": "the default dtype",
    "torch.set_default_device('meta')": "the default device",
    "torch.manual_seed(3)": "torch's seed",
    "torch.set_printoptions(precision=2)": "torch's print options",
    "np.set_printoptions(precision=2)": "NumPy's print options",
    "np.seterr(all='raise')": "NumPy's handling of errors",
    "torch.set_num_threads(3)": "the number of threads",
    "torch.use_deterministic_algorithms(True)": "whether torch's algorithms are deterministic",
    "import warnings; warnings.simplefilter('error')": "the filters of warnings",
    "torch.log1p = torch.exp": "torch.log1p",
    "torch.Tensor.abs = torch.Tensor.exp": "torch.Tensor.abs",
    "F.relu = torch.exp": "torch.nn.functional.relu",
    "math.log1p = math.exp": "math.log1p",
    "np.log1p = np.exp": "np.log1p",
    "import builtins; builtins.abs = len": "builtins.abs",
    "import dreamer_helpers.symlog as s; s.symexp = s.symlog": "dreamer_helpers.symlog.symexp",
    "import os; os.environ['MINE'] = 'yes'": "the environment's variables",
}


def world() -> list[Any]:
    """What all code shares, as far as the tests look."""
    return [
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device(), torch.initial_seed(),
        dict(vars(torch._tensor_str.PRINT_OPTS)), np.get_printoptions(), np.geterr(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(), list(warnings.filters), torch.log1p, torch.Tensor.abs,
        torch.nn.functional.relu, math.log1p, np.log1p, abs, dreamer_helpers.symlog.symexp,
    ]  # fmt: skip


@pytest.mark.parametrize("line", list(POISON))
def test_what_an_attempt_changes_is_put_back_and_named(line: str, notebook: Notebook) -> None:
    before = world()
    notebook.run(f"@exercise('symlog')\ndef symlog(x):\n    y = {GOOD}\n    {line}\n    return y")
    assert world() == before
    assert notebook["symlog"] is symlog
    assert f"changes {POISON[line]}" in notebook.said
    assert "it was put back" in notebook.said


def test_the_notebooks_random_numbers_are_as_they_were(notebook: Notebook) -> None:
    torch.manual_seed(5), np.random.seed(6), random.seed(7)
    torch.rand(3), np.random.rand(), random.random()
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    notebook.run(
        "import random\n@exercise('symlog')\ndef symlog(x):\n    torch.rand(3), np.random.rand(), random.random()\n"
        f"    return {GOOD}"
    )
    assert exercises.STATES["symlog"] == "passed"
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


def test_a_poisoned_torch_does_not_make_a_wrong_answer_right(notebook: Notebook) -> None:
    own = torch.log1p
    try:
        notebook.run("torch.log1p = torch.log")
        notebook.run("@exercise('symexp_bins')\ndef symexp_bins(n=255, limit=20.0):\n    return torch.zeros(n)")
        assert "not right yet" in notebook.said
        exercises.REGISTRY["symlog"].checks[0]._plans.clear()  # nothing is expected from before
        notebook.run("@exercise('symlog')\ndef symlog(x):\n    return torch.sign(x) * torch.log(torch.abs(x))")
        assert "not right yet" in notebook.said
    finally:
        torch.log1p = own


IN_A_THREAD = """
import threading, torch
from dreamer_helpers.course import judging

def endless(x):
    while True:
        pass

outcomes, check = [], [lambda trial: trial(torch.ones(1))]
thread = threading.Thread(target=lambda: outcomes.append(judging.hold("endless", endless, check, seconds=0.3)))
thread.start()
thread.join(10)
print(outcomes[0].wrong)
"""


def test_a_loop_without_end_is_stopped_in_a_thread_too() -> None:
    """In a process of its own, as torch's threads do not outlive the thread that made them."""
    done = subprocess.run([sys.executable, "-c", IN_A_THREAD], capture_output=True, text=True, check=False, timeout=60)
    assert "stopped after 0.3 seconds" in done.stdout, done.stderr


# -------------------------------------------------------------------------------------------- one sentence each


def test_a_missing_name_is_told_in_one_sentence(notebook: Notebook) -> None:
    assert notebook.run(f"@exercise\ndef symlog(x):\n    return {GOOD}") is None
    assert 'The name is missing: write @exercise("symlog") above it.' in notebook.said
    assert notebook["symlog"] is symlog
    error = notebook.run("@exercise\ndef other(x):\n    return x")
    assert 'write the name of the exercise behind it: @exercise("' in str(error)


def test_the_function_in_place_of_its_name_is_understood(
    notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run("hint(symlog)")
    assert capsys.readouterr().out.splitlines() == [
        'hint("symlog") is how it is written, with the name in quotes.',
        f"Hint 1 of 3: {REGISTRY['symlog'].hints[0]}",
    ]
    notebook.run(f"symlog = exercise('symlog')(lambda x: {GOOD})")
    notebook.run("show_solution(symlog)")
    assert 'show_solution("symlog") is how it is written' in capsys.readouterr().out
    assert "give the name of the exercise, in quotes" in str(notebook.run("hint(3)"))


def test_a_function_of_another_name_is_told_and_left_alone(notebook: Notebook) -> None:
    notebook.run("@exercise('symlog')\ndef symexp(x):\n    return x.sign() * x.abs().log1p()")
    assert "This cell defines `symexp`, and the exercise is `symlog`: name it so." in notebook.said
    assert notebook["symlog"] is symlog
    assert notebook["symexp"] is symexp


# -------------------------------------------------------------------------------------------- messages, solutions


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return torch.sign(x) * torch.log1p(x)", "symlog(tensor(-1.0)) gave inf, and -0.6931 is right: below 0"),
        ("s = x.sgin()\n    return s", "symlog(tensor(1.0)) raised AttributeError: 'Tensor' object has no attribute 'sgin', in the line `s = x.sgin()`."),
        ("return (x.sign() * x.abs().log1p()) * 1.0003", "symlog(tensor(1.0)) gave 0.6934, and 0.6931 is right."),
        ("return x.sign() * (torch.ones(x.shape) * x.abs()).log1p()", "stands on the CPU: write `device=x.device`"),
        ("return x.view(-1).sign().mul(x.abs().log1p().view(-1)).view(x.shape)", "with an input that is not contiguous raised RuntimeError: view size is not compatible"),
        ("return x.view(-1).sign().mul(x.abs().log1p().view(-1)).view(x.shape)", "write `reshape` in place of `view`"),
        ("if x > 0:\n        return x.log1p()\n    return -(-x).log1p()", "choose among the elements of a tensor with `torch.where` or a mask"),
        ("return x.sign() * x.abs().log1p().detach()", "no gradient flows back to x"),
        ("return (x.sign() * x.float().abs().log1p()).to(x.dtype)", "in float64 gave"),
        ("assert x.ndim == 1\n    return x", "raised AssertionError, in the line `assert x.ndim == 1`."),
    ],
)  # fmt: skip
def test_a_message_names_the_call_the_line_and_the_way_out(body: str, words: str, notebook: Notebook) -> None:
    notebook.run(f"@exercise('symlog')\ndef symlog(x):\n    {body}")
    assert words in notebook.said, notebook.said
    for internal in ("meta", "__torch", "WrongDevice", "judging"):
        assert internal not in notebook.said


@pytest.mark.parametrize("name", list(REGISTRY))
def test_the_shown_solution_is_a_right_cell(name: str, notebook: Notebook) -> None:
    """Complete, as a learner would paste it, with no helper of the package."""
    shown = repr(exercises.show_solution(name))
    assert notebook.run(reference_source(REGISTRY[name], f'@exercise("{name}")')) is None
    assert exercises.STATES[name] == "passed", notebook.said
    assert notebook[name] is not REGISTRY[name].reference
    taken = [line.split(" import ")[1] for line in shown.splitlines() if line.startswith("from dreamer_helpers")]
    assert set(taken) <= set(REGISTRY), "an import hides a piece of the answer"


def test_a_solution_brings_its_helpers_and_names_of_types_along() -> None:
    """Another function of its module, and a name that stands for a type there; other exercises are imported."""
    from dreamer_helpers.world_model import total_loss

    entry = exercises.Exercise("total_loss", "00", total_loss, (), ("a", "b"), 1, "")
    assert "Losses = dict[str, Tensor]" in reference_source(entry)
    encoding = reference_source(REGISTRY["two_hot_encoding"])
    assert encoding.index("def neighbours(") < encoding.index("def two_hot_encoding(")
    assert "from dreamer_helpers.symlog import symexp\n" in reference_source(REGISTRY["symexp_bins"])


# ---------------------------------------------------------------------------------------------------- pieces


def test_what_a_text_needs_and_binds() -> None:
    import ast

    text = "@deco\ndef f(x: Kind, y=DEFAULT):\n    z = g(x)\n    return [h(i) for i in z] + [f(y)]"
    assert set(needed_names(text)) == {"deco", "DEFAULT", "g", "h", "f"}
    assert "Kind" in needed_names(text, annotations=True)
    bound = {"a, (b, *c) = 1, 2": {"a", "b", "c"}, "import x.y, z as w": {"x", "w"}, "for i in r:\n    j = [k for k in i]": {"i", "j"},
             "with o() as p:\n    def q():\n        s = 1": {"p", "q"}}  # fmt: skip
    for source, names in bound.items():
        assert bound_names(ast.parse(source).body[0]) == names


@pytest.mark.parametrize("value", [1, -2.5, "a'b", None, (1,), [], {"a": [True, (2, "c")]}, {3}, frozenset([1]), 1e-30])
def test_plain_values_become_source(value: object) -> None:
    source = constant(value)
    assert source is not None
    assert eval(source) == value
    assert constant([object()]) is None


def test_imports_are_found_again() -> None:
    assert imported("lp", torch.log1p) == "from torch import log1p as lp"
    assert imported("np", np) == "import numpy as np"
    assert imported("symexp", symexp) == "from dreamer_helpers.symlog import symexp"
    assert imported("sqrt", math.sqrt) == "from math import sqrt"
    assert imported("x", lambda: 0) == ""
