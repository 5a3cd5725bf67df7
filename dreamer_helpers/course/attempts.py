"""The source of an attempt, wherever it stands, with what it uses from its notebook.

:func:`find` gives text that stands for itself: imports, constants, helper functions and classes, then the attempt, in
the order in which they are needed. :func:`rebuild` makes the attempt anew from such a text, in a namespace that knows
nothing else. Whether something is still to be written, and where dots were left, is seen from the source too.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import functools
import inspect
import linecache
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FrameType, ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
SCOPES = (*DEFINITIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
KNOWN = {"torch": torch, "torch.nn.functional": F, "torch.nn": torch.nn, "math": math, "numpy": np}
"""Where builtin functions are looked for, which do not say what module they are from."""
LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


@dataclass(frozen=True)
class Anchor:
    """A line of a cell, script or module that is being run, and the names that are known there."""

    file: str
    line: int
    names: dict[str, Any]

    @classmethod
    def of_frame(cls, frame: FrameType | None) -> Anchor | None:
        """Where a frame is, if that is the outermost level of a cell or a script, where an attempt gets its name."""
        if frame is None or frame.f_locals is not frame.f_globals:
            return None
        return cls(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)

    @classmethod
    def of_object(cls, value: Any) -> Anchor | None:
        """Where a function or a class was defined; None if nothing tells."""
        code = _code(value)
        if code is None:
            return None
        return cls(code.co_filename, code.co_firstlineno, _function(value).__globals__)


@dataclass
class Found:
    """An attempt's source: what stands for itself, None with a reason in ``missing``; and the attempt alone.

    ``node`` is its definition, ``defined`` the name that a decorated definition has.
    """

    source: str | None = None
    missing: str = ""
    node: ast.AST | None = None
    lines: list[str] = field(default_factory=list)
    defined: str = ""
    copied: str = ""


def find(attempt: Any, name: str, anchor: Anchor | None = None, reference: Any = None) -> Found:
    """The source of an attempt on the exercise ``name``, which stands at ``anchor`` or where it was defined."""
    for place in (anchor, Anchor.of_object(attempt)):
        for text in texts(place.file) if place else ():
            tree = parsed(text)
            wanted = _names_exercise if place is anchor else lambda _: True
            statement = _at(tree, place.line, wanted) if tree and place else None
            if statement is None or place is None:
                continue
            return _sliced(attempt, name, statement, text, place, reference)
    return Found(None, "its source cannot be found; run its cell again")


def _sliced(attempt: Any, name: str, statement: ast.stmt, text: str, place: Anchor, reference: Any) -> Found:
    defined = statement.name if isinstance(statement, DEFINITIONS) else ""
    node, lines = _definition(attempt, statement, text)
    found = Found(None, "", node, lines, defined if _names_exercise(statement) else "")
    parts = Slice(place, text, statement, {name}, reference)
    own = without_exercise(statement, text, name)
    parts.need(own)
    bound = bound_names(statement)
    if name not in bound:
        others = sorted(bound) if not isinstance(statement, ast.Expr) else []
        own += f"\n{name} = {others[0]}\n" if others else ""
    found.copied = parts.copied
    if parts.missing:
        found.missing = f"it uses {', '.join(f'`{one}`' for one in parts.missing)}, whose source cannot be found"
    else:
        found.source = "\n".join([*parts.imports, *parts.texts, own]).strip() + "\n"
    return found


# --------------------------------------------------------------------------------------- where text stands


def _shell() -> Any:
    module = sys.modules.get("IPython")
    return module.get_ipython() if module else None


def texts(file: str) -> Iterator[str]:
    """What a file of code may hold, likeliest first; a file may be a cell of a notebook."""
    shell = _shell()
    if shell is not None:
        number = getattr(shell.compile, "_filename_map", {}).get(file)
        if number is not None:  # in place of what linecache has, which cuts lines at form feeds too
            yield from _cells(shell, [number])
    lines = linecache.getlines(file)
    if lines:
        yield "".join(lines)
    elif shell is not None:  # %%time and its like run code that no file holds
        yield from _cells(shell, range(len(shell.history_manager.input_hist_raw) - 1, 0, -1))


def earlier_texts() -> Iterator[str]:
    """The cells of the notebook that is running, the newest first."""
    shell = _shell()
    if shell is not None:
        yield from _cells(shell, range(len(shell.history_manager.input_hist_raw) - 1, 0, -1))


def _cells(shell: Any, numbers: Iterable[int]) -> Iterator[str]:
    raw = shell.history_manager.input_hist_raw
    for number in numbers:
        if 0 < number < len(raw):
            cell = raw[number].lstrip("\n")
            yield shell.transform_cell(cell.partition("\n")[2] if cell.startswith("%%") else cell)


def parsed(text: str) -> ast.Module | None:
    """The syntax tree of a text, if it is Python."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def _first_line(statement: ast.stmt) -> int:
    return min([statement.lineno, *(one.lineno for one in getattr(statement, "decorator_list", ()))])


def _at(tree: ast.Module, line: int, wanted: Callable[[ast.stmt], bool] = lambda _: True) -> ast.stmt | None:
    """The outermost statement that contains a line, of several the one that is wanted."""
    there = [one for one in tree.body if _first_line(one) <= line <= (one.end_lineno or 0)]
    return next(filter(wanted, there), None)


def _names_exercise(node: ast.AST) -> bool:
    return any(_is_exercise(one) for one in ast.walk(node))


def _is_exercise(node: ast.AST) -> bool:
    """Whether this is ``exercise("name")``, under whatever module's name."""
    function = node.func if isinstance(node, ast.Call) else node
    return "exercise" in (getattr(function, "id", ""), getattr(function, "attr", ""))


def without_exercise(statement: ast.stmt, text: str, name: str) -> str:
    """The source of a statement without ``@exercise(...)`` or ``exercise(...)(...)``."""
    if isinstance(statement, DEFINITIONS):
        others = [one for one in statement.decorator_list if not _is_exercise(one)]
        kept = [f"@{ast.get_source_segment(text, one)}" for one in others]
        lines = text.split("\n")[statement.lineno - 1 : statement.end_lineno]
        if statement.col_offset or (statement.end_col_offset or 0) < len(lines[-1].encode().rstrip()):
            lines = [ast.get_source_segment(text, statement) or ast.unparse(statement)]
        return "\n".join([*kept, *lines]) + "\n"
    if not _names_exercise(statement):
        return (ast.get_source_segment(text, statement) or ast.unparse(statement)) + "\n"
    bare = _Undecorated().visit(ast.parse(ast.unparse(statement))).body[0]
    prefix = f"{name} = " if isinstance(bare, ast.Expr) else ""
    return prefix + ast.unparse(bare) + "\n"


class _Undecorated(ast.NodeTransformer):
    """Takes ``exercise("name")(f)`` for ``f``, also above a definition."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [one for one in node.decorator_list if not _is_exercise(one)]
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.decorator_list = [one for one in node.decorator_list if not _is_exercise(one)]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = isinstance(node.func, ast.Call) and _is_exercise(node.func)
        return node.args[0] if called and len(node.args) == 1 else node


# ------------------------------------------------------------------------------------ what a text depends on


def bound_names(statement: ast.AST) -> set[str]:
    """The names that a statement gives to something at its own level."""
    if isinstance(statement, DEFINITIONS):
        return {statement.name}
    found = set()
    if isinstance(statement, ast.Name) and isinstance(statement.ctx, ast.Store):
        found.add(statement.id)
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    if not isinstance(statement, SCOPES):
        for child in ast.iter_child_nodes(statement):
            found |= bound_names(child)
    return found


def needed_names(source: str, annotations: bool = False) -> list[str]:
    """The names that a text takes from around it, in order; those of annotations only if asked for."""
    flags = 0 if annotations else __future__.annotations.compiler_flag
    code = compile(source, "<needed>", "exec", flags=flags, dont_inherit=True)
    return list(dict.fromkeys(_loaded(code)))


def _loaded(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in LOADS:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loaded(constant)


class Slice:
    """What a statement needs of the names around it, as source: ``imports`` and ``texts``, each after what it needs.

    ``given`` are names that need no source, and what has none stands in ``missing``. With ``annotations``, names that
    stand in annotations alone are needed too.
    """

    def __init__(
        self, place: Anchor, text: str, statement: ast.stmt | None, given: set[str], reference: Any = None,
        annotations: bool = False,
    ):  # fmt: skip
        self.place, self.text, self.statement, self.reference = place, text, statement, reference
        self.annotations, self.copied = annotations, ""
        self.imports: list[str] = []
        self.texts: list[str] = []
        self.missing: list[str] = []
        self.done = {"exercise", *given}

    def need(self, source: str, but: Iterable[str] = ()) -> None:
        """Collect what a text needs."""
        for name in needed_names(source, self.annotations):
            known = name in self.place.names
            own = known and self.place.names[name] is not getattr(builtins, name, self)
            if name not in self.done and name not in but and own:
                self.done.add(name)
                self._define(name, self.place.names[name])

    def _define(self, name: str, value: Any) -> None:
        if value is self.reference and value is not None:
            self.copied = name
        if line := imported(name, value):
            self.imports.append(line)
        elif (literal := constant(value)) is not None:
            if "torch." in literal:
                self._import_torch()
            self.texts.append(f"{name} = {literal}\n")
        elif source := self._statement(name, value):
            self.need(source, bound_names(ast.parse(source).body[0]))
            self.texts.append(source)
        elif isinstance(value, torch.Tensor) and value.numel() <= 1000 and value.layout is torch.strided:
            self._import_torch()
            self.texts.append(f"{name} = torch.tensor({value.detach().tolist()}, dtype={value.dtype})\n")
        else:
            self.missing.append(name)

    def _import_torch(self) -> None:
        if "import torch" not in self.imports:
            self.imports.append("import torch")

    def _statement(self, name: str, value: Any) -> str | None:
        """The statement that made a value: where its code stands, else the last one that binds its name."""
        anchor = Anchor.of_object(value) if inspect.isfunction(value) or inspect.isclass(value) else None
        for text in texts(anchor.file) if anchor else ():
            tree = parsed(text)
            statement = _at(tree, anchor.line) if tree and anchor else None
            bound = bound_names(statement) if statement else set()
            if statement and (name in bound or bound == {getattr(value, "__name__", "")}):
                own = without_exercise(statement, text, name)
                return own if name in bound else f"{own}\n{name} = {value.__name__}\n"
        for text, statements in self._before():
            for statement in reversed(statements):
                if name in bound_names(statement):
                    own = without_exercise(statement, text, name)
                    again = isinstance(value, torch.Tensor) and name in needed_names(own)  # a step of several
                    return None if again else own
        return None

    def _before(self) -> Iterator[tuple[str, list[ast.stmt]]]:
        """What ran before the attempt: its own cell up to there, then the cells before, newest first."""
        tree = parsed(self.text)
        if tree and self.statement is not None:
            yield self.text, [one for one in tree.body if one.lineno < self.statement.lineno]
        for text in earlier_texts():
            tree = parsed(text)
            if tree:
                yield text, tree.body


def imported(name: str, value: Any) -> str:
    """The import that gives a name to something of an installed module; empty if it is from none."""
    if isinstance(value, ModuleType):
        return f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}")
    own = getattr(value, "__qualname__", None) or getattr(value, "_name", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    if inspect.isbuiltin(value):
        own = value.__name__  # torch's functions name a class inside of it as their home
    if not isinstance(own, str) or not own.isidentifier():
        return ""
    homes = {module: sys.modules.get(module)} if isinstance(module, str) and module != "__main__" else KNOWN
    for home, where in homes.items():
        if where is not None and getattr(where, own, None) is value:
            return f"from {home} import {own}" + ("" if own == name else f" as {name}")
    return ""


def constant(value: Any) -> str | None:
    """A plain value as source; None for one that is more than that."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if value is None or value is Ellipsis or type(value) in (bool, int, float, complex, str, bytes):
        return "..." if value is Ellipsis else repr(value)
    if isinstance(value, torch.dtype):
        return repr(value)
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    if type(value) in (tuple, list, set, frozenset):
        parts = [constant(part) for part in value]
        if None in parts or (not parts and type(value) is set):
            return None
        inside = ", ".join(map(str, parts))
        if type(value) is frozenset:
            return f"frozenset([{inside}])"
        opening, closing = {tuple: "()", list: "[]", set: "{}"}[type(value)]
        return f"{opening}{inside}{',' if type(value) is tuple and parts else ''}{closing}"
    if type(value) is dict:
        pairs = [(constant(key), constant(part)) for key, part in value.items()]
        known = all(key is not None and part is not None for key, part in pairs)
        return "{" + ", ".join(f"{key}: {part}" for key, part in pairs) + "}" if known else None
    return None


# ---------------------------------------------------------------------------------------------- rebuilding


def rebuild(name: str, source: str, given: dict[str, Any] | None = None) -> Any:
    """An attempt made anew from its source, which knows torch, numpy, math and what is ``given``, and nothing else."""
    space: dict[str, Any] = {
        "__name__": "learner", "torch": torch, "np": np, "math": math, "F": F, "nn": torch.nn,
        "Tensor": torch.Tensor, "exercise": lambda _: lambda attempt: attempt, "__builtins__": builtins,
        **(given or {}),
    }  # fmt: skip
    space.pop(name, None)
    file = f"<passport {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    code = compile(source, file, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    exec(code, space)
    if name not in space:
        raise NameError(f"name {name!r} is not defined")
    return space[name]


# --------------------------------------------------------------------------------- what is still to be written


def _function(value: Any) -> Any:
    """The function that a callable leads to, for where its code stands."""
    while isinstance(value, functools.partial):
        value = value.func
    value = inspect.unwrap(value) if callable(value) else value
    if inspect.isclass(value) or (not hasattr(value, "__code__") and not inspect.ismethod(value)):
        kind = value if inspect.isclass(value) else type(value)
        own = [one for one in vars(kind).values() if inspect.isfunction(one)]
        return own[0] if own else value
    return getattr(value, "__func__", value)


def _code(value: Any) -> CodeType | None:
    try:
        code = getattr(_function(value), "__code__", None)
    except ValueError:  # a wrapper that wraps itself
        return None
    return code if isinstance(code, CodeType) else None


def _definition(attempt: Any, statement: ast.stmt, text: str) -> tuple[ast.AST | None, list[str]]:
    """The definition of an attempt, wherever it stands, and the lines of its text."""
    if isinstance(statement, DEFINITIONS):
        return statement, text.split("\n")
    anchor = Anchor.of_object(attempt)
    for text in texts(anchor.file) if anchor else ():
        tree = parsed(text)
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, (*DEFINITIONS, ast.Lambda)) and anchor and _begins(node, anchor.line, attempt):
                return node, text.split("\n")
    return None, []


def _begins(node: Any, line: int, attempt: Any) -> bool:
    first = node.lineno if isinstance(node, ast.Lambda) else _first_line(node)
    inside = isinstance(node, ast.ClassDef) and node.lineno <= line <= (node.end_lineno or 0)
    return inside if not hasattr(_function(attempt), "__code__") or _is_object(attempt) else first == line


def _is_object(attempt: Any) -> bool:
    return inspect.isclass(attempt) or not (inspect.isroutine(attempt) or isinstance(attempt, functools.partial))


def waits(found: Found, methods: Iterable[str] = ()) -> bool:
    """Whether an attempt does nothing else than wait to be written: dots, ``pass``, NotImplementedError, a docstring.

    For a class, ``methods`` names those that are to be written; by default all of its own but ``__init__``.
    """
    node = found.node
    if isinstance(node, ast.Lambda):
        return _is_dots(node.body)
    if isinstance(node, ast.ClassDef):
        own = [one for one in node.body if isinstance(one, ast.FunctionDef)]
        wanted = set(methods)
        written = [one for one in own if one.name in wanted] if wanted else _to_be_written(own)
        return all(_only_waits(one.body) for one in written)
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _only_waits(node.body)


def _to_be_written(own: list[ast.FunctionDef]) -> list[ast.FunctionDef]:
    return [one for one in own if one.name != "__init__"] or own


def _is_dots(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis


def _is_waiting(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Raise) and statement.exc is not None:
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return _is_dots(statement.value)
    if isinstance(statement, ast.Return):
        return statement.value is None or _is_dots(statement.value)
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _only_waits(body: list[ast.stmt]) -> bool:
    return all(map(_is_waiting, body))


def has_gaps_alone(found: Found) -> bool:
    """Whether all that is written in a function waits for names that are still dots, as in a template with gaps."""
    body = getattr(found.node, "body", None)
    if not isinstance(body, list):
        return False
    gaps = [one for one in body if _is_waiting(one) and isinstance(one, (ast.Assign, ast.AnnAssign))]
    empty = {name for gap in gaps for name in bound_names(gap)}
    rest = [statement for statement in body if not _is_waiting(statement)]
    used = [{one.id for one in ast.walk(statement) if isinstance(one, ast.Name)} for statement in rest]
    return bool(empty) and all(empty & names for names in used)


def leftover(found: Found) -> str:
    """The lines in which dots were left beside code, in words; empty if there are none."""
    node = found.node
    if node is None:
        return ""
    docstrings = {id(one.body[0]) for one in ast.walk(node) if isinstance(one, DEFINITIONS) and one.body}
    lines = [
        found.lines[one.lineno - 1].strip()
        for one in ast.walk(node)
        if isinstance(one, ast.stmt) and _is_waiting(one) and not _is_said(one, docstrings)
    ]
    if not lines:
        return ""
    words = ", ".join(f"`{line}`" for line in dict.fromkeys(lines))
    return f"The line {words} still waits in it." if len(lines) == 1 else f"The lines {words} still wait in it."


def _is_said(statement: ast.stmt, docstrings: set[int]) -> bool:
    """Whether a statement that does nothing is meant so: a docstring, ``pass``, a plain return."""
    if isinstance(statement, ast.Expr):
        return not _is_dots(statement.value)
    return isinstance(statement, ast.Pass) or (isinstance(statement, ast.Return) and statement.value is None)
