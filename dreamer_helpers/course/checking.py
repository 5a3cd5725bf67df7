"""The kit of checks: an exercise says for which calls an attempt must do what its reference does, and the rest follows.

    Exercise(
        "symlog", "01", symlog,
        (Cases(lambda: [*batches(1.0, -3.0, 0.5), *batches(*magnitudes(), slopes=False)], atol=0.0),),
        ("A nudge.", "More."), minutes=3, slot="symlog",
    )

For every call of the cases the attempt's results are compared with those of the reference, which are computed before
the attempt runs: values, shapes, dtypes, and the structure of tuples, named tuples and dictionaries. By themselves
follow, wherever the reference itself can do it:

* inputs are left as they were (or changed as the reference changes them);
* float64 in, what the reference then gives out, with the digits of float64;
* the gradients of all floating-point inputs, and of a module's parameters, and none where the reference gives none;
* it works where the inputs are on a GPU (on any machine: one is imitated).

:func:`batches` makes from single examples calls with 0-d, 1-d and 3-d, empty and not contiguous inputs, and one in
which all examples, of whatever size, stand side by side. The parts of an example are stacked, what ``shared`` holds is
the same for all. With several inputs, one of which is shared:

    def _cases() -> list[Call]:
        bins = torch.linspace(-2.0, 2.0, 5)
        examples = [(torch.zeros(5), torch.tensor(0.3)), (1000 * torch.eye(5)[2], torch.tensor(-9.0))]
        return batches(*examples, shared=(bins,))

    Exercise("two_hot_loss", "02", two_hot_loss, (Cases(_cases, gradient=("logits", "target")),), ...)

Where axes have a fixed meaning, calls are written out, with whatever arguments they take:

    Cases(lambda: [call(torch.rand(2, 5), torch.rand(2, 5), torch.full((2, 5), 0.9), 0.95)])       compute_returns
    Cases(lambda: [call(torch.softmax(x, -1), seeded(7)) for x in ...])                            sample_one_hot
    Cases(lambda: [call(made(OneHot, x), made(OneHot, y), 1.0) for x, y in ...])                    kl_loss
    Cases(lambda: [call(BlockGRU(8, 6, 2, 4, 2), h, z, a)])                                         gru_step
    Cases(lambda: [call(model, state, e, a, first, seeded(7))], view=lambda out: (out[0], out[1].logits))    observe
    Cases(lambda: [call(h, z, a)], build=(8, 6, 2, 4, 2))                                           a whole nn.Module

``seeded(7)`` is a generator that gives both sides the same numbers, ``made(f, x)`` an argument computed from tensors
that gradients reach, ``build`` are the arguments of a class: attempt and reference are made with them and get the same
weights. A module among the arguments is copied for every call. A check that is none of this is a function of the
attempt which raises AssertionError; errors of the attempt are told for it.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from dreamer_helpers.course.gpu import OnGpu, WrongDevice
from dreamer_helpers.course.judging import (
    Trial,
    Watch,
    Wrong,
    as_written,
    isolated,
    meaning,
    originals,
    passed_through,
    words_of,
)

# ------------------------------------------------------------------------------------------------- calls


@dataclass(frozen=True)
class Call:
    """One call: its arguments, how a message writes it (by itself if empty), and what a failure there means.

    ``slopes`` says whether gradients are compared, ``double`` whether it is done in float64 once more, ``strided``
    that tensors are handed over not contiguous, ``lenient`` that an error is no more than a remark.
    """

    arguments: tuple[Any, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    why: str = ""
    slopes: bool = True
    double: bool = True
    strided: bool = False
    lenient: bool = False


def call(
    *arguments: Any, words: str = "", why: str = "", slopes: bool = True, double: bool = True, **settings: Any
) -> Call:
    """A call with these arguments; ``words``, ``why``, ``slopes`` and ``double`` are those of :class:`Call`."""
    return Call(arguments, settings, words, why, slopes, double)


@dataclass(frozen=True)
class Seeded:
    """A generator, made anew for every run."""

    seed: int
    words: str = "generator"


def seeded(seed: int = 0) -> Any:
    """An argument: a generator that gives the reference and the attempt the same numbers."""
    return Seeded(seed)


@dataclass(frozen=True)
class Made:
    """An argument that is computed from others, so that gradients and devices reach it."""

    function: Callable[..., Any]
    parts: tuple[Any, ...]

    @property
    def words(self) -> str:
        """How a message writes it."""
        return words_of(getattr(self.function, "__name__", "made"), self.parts, {})


def made(function: Callable[..., Any], *parts: Any) -> Any:
    """An argument ``function(*parts)``, made anew for every run."""
    return Made(function, parts)


def magnitudes(low: int = -18, high: int = 18) -> list[float]:
    """Numbers of every size and both signs: 1.7 times the powers of ten from ``low`` to ``high``."""
    return [sign * 1.7 * 10.0**power for power in range(low, high + 1, 2) for sign in (1, -1)]


NOT_A_NUMBER = "what is no number must not become an ordinary one, or a fault elsewhere is never seen"


def batches(
    *examples: Any, shared: tuple[Any, ...] = (), why: str = "", slopes: bool = True, nan: bool = False,
    empty: bool = True,
) -> list[Call]:  # fmt: skip
    """Calls with batches of every shape, made of examples: numbers, tensors, or tuples of tensors that go together.

    First each example alone, without an axis for the batch; then all in one, some in (2, 1, 3), none at all, and some
    that are not contiguous. ``shared`` are the arguments behind, the same for all. ``nan`` adds a batch in which one
    number is NaN, and the reference says what becomes of it, or an error does; without ``empty``, an error is a remark.
    """
    rows = [tuple(map(torch.as_tensor, one if isinstance(one, tuple) else (one,))) for one in examples]
    stacked = [torch.stack(column) for column in zip(*rows, strict=True)]
    some = torch.arange(6) * max(1, len(rows) // 6) % len(rows)
    three = [column[some].unflatten(0, (2, 1, 3)) for column in stacked]
    alone = [Call((*row, *shared), {}, "", why, slopes, double=False) for row in rows]
    return [
        *alone,
        Call((*stacked, *shared), {}, "", why, slopes, double=True),
        Call((*three, *shared), {}, "", why, slopes, double=True),
        Call((*rows[-1], *shared), {}, "", why, slopes=False, double=True),
        Call((*(c[:0] for c in stacked), *shared), {}, "", "", slopes=False, double=False, lenient=not empty),
        Call((*three, *shared), {}, "", why, slopes=False, double=False, strided=True),
        *([_with_nan(*stacked, *shared)] if nan and stacked[0].is_floating_point() else []),
    ]


def _with_nan(first: Tensor, *others: Any) -> Call:
    first = first.clone()
    first.view(-1)[0] = math.nan
    return Call((first, *others), {}, "", NOT_A_NUMBER, slopes=False, double=False, lenient=True)


# ---------------------------------------------------------------------------------------- handing over


@dataclass(frozen=True)
class Way:
    """How arguments are handed over: in float64, not contiguous, moved a little, moved by a part of what they are,
    with gradients, marked as on a GPU."""

    double: bool = False
    strided: bool = False
    moved: bool = False
    aside: float = 0.0
    slopes: Callable[[str], bool] | None = None
    put: Callable[[Tensor], Tensor] | None = None


@dataclass
class Handed:
    """Arguments as a function gets them, and the tensors in them by name."""

    arguments: list[Any]
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def hand_over(case: Call, names: Sequence[str], way: Way, subject: nn.Module | None = None) -> Handed:
    """A fresh copy of a call's arguments: whatever an attempt does to them, the case stays as it is."""
    found: dict[str, Tensor] = {}
    names = [*names, *(f"argument {i + 1}" for i in range(len(names), len(case.arguments)))]
    arguments = [_fresh(value, name, way, found) for name, value in zip(names, case.arguments, strict=False)]
    settings = {name: _fresh(value, name, way, found) for name, value in case.settings.items()}
    if subject is not None:
        arguments.insert(0, _fresh(subject, "its weights", way, found))
    return Handed(arguments, settings, found)


def _fresh(value: Any, name: str, way: Way, found: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        found[name] = _fresh_tensor(value, name, way)
        return found[name]
    if isinstance(value, nn.Module):
        return _fresh_module(value, name, way, found)
    if isinstance(value, Seeded):
        return torch.Generator().manual_seed(value.seed)
    if isinstance(value, Made):
        return value.function(*(_fresh(part, f"{name}", way, found) if not isinstance(part, Tensor)
                                else _fresh(part, _free(name, found), way, found) for part in value.parts))  # fmt: skip
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = zip(value._fields, value, strict=True)
        return type(value)(*(_fresh(part, f"{name}.{key}", way, found) for key, part in parts))
    if isinstance(value, (tuple, list)):
        return type(value)(_fresh(part, f"{name}[{i}]", way, found) for i, part in enumerate(value))
    if isinstance(value, dict):
        return {key: _fresh(part, f"{name}[{key!r}]", way, found) for key, part in value.items()}
    return value


def _free(name: str, found: dict[str, Tensor]) -> str:
    return name if name not in found else f"{name}, part {1 + sum(key.startswith(name) for key in found)}"


def _fresh_tensor(value: Tensor, name: str, way: Way) -> Tensor:
    tensor, floats = value.detach().clone(), value.dtype.is_floating_point
    wanted = floats and way.slopes is not None and way.slopes(name)
    if wanted and way.moved:  # off the kinks, where slopes are a matter of taste
        steps = torch.linspace(0.6, 1.4, max(tensor.numel(), 1))[: tensor.numel()].reshape(tensor.shape)
        tensor = tensor + 0.01 * steps.to(tensor.dtype) * tensor.abs().clamp(min=1.0)
    if floats and way.double:  # no number of float32, so that a detour through it is seen
        tensor = tensor.double() * (1 + 3e-8)
    elif wanted and way.aside:
        tensor = tensor + way.aside * torch.where(tensor == 0, 1e-3, tensor.abs())
    if way.strided and tensor.ndim > 1:
        tensor = tensor.transpose(0, -1).contiguous().transpose(0, -1)
    elif way.strided and tensor.ndim:
        tensor = torch.stack([tensor, tensor], -1)[..., 0]
    if wanted:
        tensor.requires_grad_()
    return way.put(tensor) if way.put else tensor


def _fresh_module(value: nn.Module, name: str, way: Way, found: dict[str, Tensor]) -> nn.Module:
    module = copy.deepcopy(value)
    module = module.double() if way.double else module
    slopes = way.slopes is not None and way.slopes(name)
    for key, tensor in (*module.named_parameters(), *module.named_buffers()):
        found[f"{name}.{key}"] = tensor
        if tensor.dtype.is_floating_point and isinstance(tensor, nn.Parameter):
            tensor.requires_grad_(slopes)
        if way.put:
            way.put(tensor)
    return module


# ---------------------------------------------------------------------------------------------- results


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a result, by where they stand in it."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        for key, part in zip(value._fields, value, strict=True):
            yield from leaves(part, f"{path}.{key}")
    elif isinstance(value, (tuple, list)):
        for i, part in enumerate(value):
            yield from leaves(part, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{path}[{key!r}]")
    else:
        yield path, value


def same_form(got: Any, right: Any, what: str) -> None:
    """Raise :class:`Wrong` unless a result is made of the same parts: tensors, tuples, names, keys."""
    if got is None and right is not None:
        raise Wrong(f"{what} gave None: is there a `return`?")
    if isinstance(right, Tensor):
        if not isinstance(got, Tensor):
            raise Wrong(f"{what} gave {_kind(got)}, not a tensor{_how_come(got)}")
    elif isinstance(right, tuple) and hasattr(right, "_fields"):
        if getattr(got, "_fields", None) != right._fields:
            raise Wrong(f"{what} gave {_kind(got)}, and {type(right).__name__}({', '.join(right._fields)}) is right")
    elif isinstance(right, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(right):
            raise Wrong(f"{what} gave {_kind(got)}, and {_kind(right)} is right")
    elif isinstance(right, dict) and (not isinstance(got, dict) or set(got) != set(right)):
        raise Wrong(f"{what} gave {_kind(got)}, and {_kind(right)} is right")
    if isinstance(right, dict):
        for key, part in right.items():
            same_form(got[key], part, f"{what}[{key!r}]")
    elif isinstance(right, (tuple, list)):
        keys = getattr(right, "_fields", None)
        for i, part in enumerate(right):
            same_form(got[i], part, f"{what}.{keys[i]}" if keys else f"{what}[{i}]")


def _how_come(got: Any) -> str:
    """The likeliest cause of a result that is no tensor."""
    if isinstance(got, tuple) and len(got) == 1:
        return ": is there a comma at the end of the line with `return`?"
    if inspect.isgenerator(got):
        return ": write `return` in place of `yield`"
    return ": give back what it gives, so call it with its arguments in brackets" if callable(got) else ""


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "a tensor"
    if isinstance(value, dict):
        return f"a dictionary with {', '.join(map(repr, value))}"
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return f"{len(value)} values" if len(value) != 1 else f"a {type(value).__name__} with 1 value"
    return type(value).__name__


def is_tensor_like(got: Any, right: Tensor, what: str) -> None:
    """Raise :class:`Wrong` unless ``got`` is a tensor of the right shape and dtype, without a gradient of its own."""
    same_form(got, right, what)
    if got.shape != right.shape:
        raise Wrong(f"{what} has shape {tuple(got.shape)}, not {tuple(right.shape)}")
    if got.dtype != right.dtype:
        raise Wrong(f"{what} is of type {got.dtype}, not {right.dtype}")
    if got.requires_grad and not right.requires_grad:
        raise Wrong(f"{what} asks for gradients (requires_grad), and nothing is to be learned here")


def apart(got: float, right: float) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to see that they differ, at least four."""
    texts = repr(got), repr(right)
    for digits in range(4, 17):
        texts = tuple(repr(float(f"{one:.{digits}g}")) if isinstance(one, float) else repr(one) for one in (got, right))
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def equal_values(got: Tensor, right: Tensor, what: str, rtol: float, atol: float) -> None:
    """Raise :class:`Wrong` at the first element in which two tensors of one shape differ; NaN equals NaN."""
    if torch.equal(got, right):
        return
    close = torch.isclose(got, right, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return
    at = tuple(torch.nonzero(~close)[0].tolist())
    where = f" at {list(at)}" if right.numel() > 1 else ""
    one, other = apart(got[at].item(), right[at].item())
    raise Wrong(f"{what} gave {one}{where}, and {other} is right")


# ------------------------------------------------------------------------------------------------- cases


@dataclass
class Run:
    """What came of a call of the reference: the result, and its inputs before and afterwards."""

    result: Any
    before: dict[str, Tensor]
    after: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Cases:
    """A check: an attempt does what the reference does, in all the calls that ``make`` gives.

    ``rtol`` and ``atol`` bound the difference of values, |got - right| <= atol + rtol |right|, ``double_rtol`` in
    float64. ``gradient`` names the parameters whose gradients are compared, None means all. ``double`` is False where
    nothing is said about float64, and then a failure there is a remark. ``build`` makes a class into an object,
    ``method`` is the one that is called. ``view`` takes from a result what is to be compared. ``known`` are wrong ideas
    that many have: functions, each with a sentence for an attempt that gives the same.
    """

    make: Callable[[], Sequence[Call]]
    rtol: float = 1e-4
    atol: float = 1e-6
    double_rtol: float = 1e-9
    gradient: tuple[str, ...] | None = None
    slope_rtol: float = 2e-3
    double: bool = True
    build: tuple[Any, ...] | None = None
    method: str = "__call__"
    view: Callable[[Any], Any] | None = None
    known: tuple[tuple[Callable[..., Any], str], ...] = ()
    _plans: dict[Any, Plan] = field(default_factory=dict, repr=False)

    def against(self, reference: Any) -> Callable[[Trial], None]:
        """The check of an attempt. Expected values are computed here, before an attempt runs, and kept."""
        if reference not in self._plans:
            with isolated(), originals():
                self._plans[reference] = Plan(self, reference)
        return self._plans[reference].judge


class Plan:
    """The calls of some cases, with what is expected of each."""

    def __init__(self, cases: Cases, reference: Any):
        self.cases, self.reference = cases, reference
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.calls = list(cases.make())
            self.subject = None if cases.build is None else reference(*cases.build)
        function = reference if self.subject is None else getattr(type(self.subject), self._method())
        names = list(inspect.signature(function).parameters)
        self.names = names if self.subject is None else names[1:]
        self.plain = [self._expected(case, Way(strided=case.strided)) for case in self.calls]
        self.doubled = [self._doubled(case) if case.double else None for case in self.calls]
        self.slopes = [list(self._slopes(case)) if case.slopes else [] for case in self.calls]
        self.on_gpu = [i for i in self._with_most_axes(2) if self._can_run_on_gpu(i)]

    # ------------------------------------------------------------------------------- what the reference does

    def _method(self) -> str:
        return (
            "forward" if self.cases.method == "__call__" and isinstance(self.subject, nn.Module) else self.cases.method
        )

    def _of_reference(self, handed: Handed) -> Any:
        if self.subject is None:
            return self.reference(*handed.arguments, **handed.settings)
        return getattr(handed.arguments[0], self.cases.method)(*handed.arguments[1:], **handed.settings)

    def _seen(self, result: Any) -> Any:
        return self.cases.view(result) if self.cases.view else result

    def _wants(self, name: str) -> bool:
        asked = self.cases.gradient
        return asked is None or any(name == one or name.startswith((f"{one}.", f"{one}[", f"{one},")) for one in asked)

    def _expected(self, case: Call, way: Way) -> Run:
        handed = hand_over(case, self.names, way, self.subject)
        before = _kept(handed.tensors)
        return Run(_kept(self._seen(self._of_reference(handed))), before, _kept(handed.tensors))

    def _doubled(self, case: Call) -> Run | None:
        """What is expected in float64, if there is anything to be of float64 and the reference can do it."""
        way = Way(double=True)
        tensors = hand_over(case, self.names, way, self.subject).tensors.values()
        if not any(tensor.dtype == torch.float64 for tensor in tensors):
            return None
        try:
            return self._expected(case, way)
        except (RuntimeError, TypeError, ValueError):
            return None

    def _slopes(self, case: Call) -> Iterator[Slopes]:
        """The gradients that are compared: at the inputs themselves, of a plain and of a weighted sum, and aside."""
        for moved, weighted in ((False, False), (False, True), (True, True)):
            way = Way(slopes=self._wants, moved=moved, strided=case.strided)
            right = self._slopes_of(case, way, weighted)
            if right is None or (not moved and _size(right) <= 1e-3 * (_size(self._slopes_of(case, way, True)))):
                continue  # nothing, or what is left of a sum that never changes
            clear = {name: slope.isfinite() for name, slope in right.items() if slope is not None}
            for aside in () if moved else (1e-4, -1e-4):
                there = self._slopes_of(case, replace(way, aside=aside), weighted) or {}
                for name in clear:
                    clear[name] &= _near(there.get(name), right[name])
            yield Slopes(way, weighted, right, clear, self._noise(case, way))

    def _noise(self, case: Call, way: Way) -> dict[str, float]:
        """How large the slopes are that rounding alone makes: a little of the result, by the size of the input."""
        handed = hand_over(case, self.names, way, self.subject)
        result = _size(dict(leaves(self._seen(self._of_reference(handed)))))
        sizes = {name: _size({name: tensor}) for name, tensor in handed.tensors.items()}
        return {name: 1e-6 * result / size if size else 0.0 for name, size in sizes.items()}

    def _slopes_of(self, case: Call, way: Way, weighted: bool) -> dict[str, Tensor | None] | None:
        handed = hand_over(case, self.names, way, self.subject)
        try:
            slopes = gradients(self._seen(self._of_reference(handed)), handed, weighted)
        except RuntimeError:
            return None
        return slopes if any(slope is not None for slope in slopes.values()) else None

    def _with_most_axes(self, number: int) -> list[int]:
        """Some calls to try on a GPU: a tensor of one number may stand anywhere, so it would prove little."""
        plain = [i for i, case in enumerate(self.calls) if not case.lenient and not case.strided]
        axes = {i: sum(t.ndim for t in hand_over(self.calls[i], self.names, Way()).tensors.values()) for i in plain}
        return sorted(plain, key=lambda i: -axes[i])[:number]

    def _can_run_on_gpu(self, i: int) -> bool:
        handed = hand_over(self.calls[i], self.names, Way(put=OnGpu.put), self.subject)
        try:
            with OnGpu():
                result = self._seen(self._of_reference(handed))
        except RuntimeError:
            return False
        found = [entry for _, entry in leaves(result) if isinstance(entry, Tensor)]
        return bool(found) and bool(handed.tensors) and all(map(OnGpu.has, found))

    # ------------------------------------------------------------------------------------- what is asked of it

    def judge(self, trial: Trial) -> None:
        """Raise :class:`Wrong` where an attempt does something else than the reference."""
        subject = self._made_alike(trial)
        function = trial.attempt if subject is None else lambda one, *a, **k: getattr(one, self.cases.method)(*a, **k)
        seen: list[tuple[str, Tensor, Tensor]] = []
        for case, right in zip(self.calls, self.plain, strict=True):
            self._compare(trial, function, subject, case, right, Way(strided=case.strided), seen)
        for case, slopes in zip(self.calls, self.slopes, strict=True):
            for one in slopes:
                self._compare_slopes(trial, function, subject, case, one)
        self._try_without_tracking(trial, function, subject)
        for case, doubled in zip(self.calls, self.doubled, strict=True):
            if doubled is not None:
                self._compare_doubled(trial, function, subject, case, doubled)
        for i in self.on_gpu:
            case = self.calls[i]
            _try_on_gpu(trial, function, case, self.names, subject, self._seen, self._words(trial, case))

    def _words(self, trial: Trial, case: Call, kind: str = "") -> str:
        words = case.words or words_of(trial.name, case.arguments, case.settings)
        if self.subject is not None and not case.words:
            words = words_of(f"{words_of(trial.name, self.cases.build or (), {})}", case.arguments, case.settings)
        return f"{words}{kind or (' with an input that is not contiguous' if case.strided else '')}"

    def _made_alike(self, trial: Trial) -> nn.Module | None:
        """An object of the attempt's class with the weights of the reference's."""
        if self.subject is None:
            return None
        words = words_of(trial.name, self.cases.build or (), {})
        made_ = trial.run(words, trial.attempt, *(self.cases.build or ()))
        right = self.subject.state_dict() if isinstance(self.subject, nn.Module) else {}
        own = made_.state_dict() if isinstance(made_, nn.Module) else {}
        shapes, wanted = ([tuple(t.shape) for t in weights.values()] for weights in (own, right))
        if shapes != wanted and sorted(shapes) != sorted(wanted):
            raise Wrong(f"{words} has weights of the shapes {shapes}, and {wanted} are right")
        if right:
            names = list(right) if set(own) == set(right) else list(own)
            made_.load_state_dict(dict(zip(names, right.values(), strict=True)))
        return made_

    def _own_names(self, subject: Any) -> dict[str, str]:
        """What an attempt calls the weights of the reference: in the same order, they may have other names."""
        if not isinstance(subject, nn.Module) or not isinstance(self.subject, nn.Module):
            return {}
        names = ([name for name, _ in module.named_parameters()] for module in (self.subject, subject))
        return {f"its weights.{one}": f"its weights.{other}" for one, other in zip(*names, strict=True)}

    def _compare(
        self, trial: Trial, function: Callable[..., Any], subject: Any, case: Call, right: Run, way: Way,
        seen: list[tuple[str, Tensor, Tensor]],
    ) -> None:  # fmt: skip
        handed, words = hand_over(case, self.names, way, subject), self._words(trial, case)
        words += " in float64" if way.double else ""
        try:
            got = trial.run(words, function, *handed.arguments, **handed.settings)
        except Wrong as error:
            if not case.lenient or error.__cause__ is None:  # a program that ends is no remark
                raise Wrong(_with(str(error), case.why)) from error.__cause__
            _remark(trial, f"{'NaN' if case.why == NOT_A_NUMBER else 'An empty input'} is not for it", error)
            return
        rtol = self.cases.double_rtol if way.double else self.cases.rtol
        atol = self.cases.atol * (rtol / self.cases.rtol)
        try:
            got = self._view_of(got, words)
            self._same(got, right, handed, words, rtol, atol)
        except Wrong as error:
            why = self._idea(case, got, way, rtol, atol) or (_of_float32(got, right) if way.double else "") or case.why
            raise Wrong(_with(str(error), why)) from None
        unchanged(seen, words)
        seen += [(words, one, one.clone()) for _, one in leaves(got) if isinstance(one, Tensor)]

    def _idea(self, case: Call, got: Any, way: Way, rtol: float, atol: float) -> str:
        """What to say of a known wrong idea, if that is what an attempt gave; "" if it is none."""
        for function, text in self.cases.known:
            handed = hand_over(case, self.names, way, self.subject)
            with originals():
                idea = function(*handed.arguments, **handed.settings)
            if same_tensors(got, idea, rtol, atol):
                return text
        return ""

    def _view_of(self, got: Any, words: str) -> Any:
        try:
            return self._seen(got)
        except Exception as error:
            raise Wrong(f"{words} gave {_kind(got)}, which has not the right form: {meaning(error)}") from None

    def _same(self, got: Any, right: Run, handed: Handed, words: str, rtol: float, atol: float) -> None:
        same_inputs(handed, right, words, rtol, atol)
        same_form(got, right.result, words)
        for (path, one), (_, other) in zip(leaves(got), leaves(_in_order(right.result, got)), strict=True):
            what = f"{words}{path}"
            if isinstance(other, Tensor):
                is_tensor_like(one, other, what)
                equal_values(one, other, what, rtol, atol)
            elif isinstance(other, float):
                if not math.isclose(float(one), other, rel_tol=rtol, abs_tol=atol):
                    raise Wrong(f"{what} gave {apart(one, other)[0]}, and {apart(one, other)[1]} is right")
            elif one != other:
                raise Wrong(f"{what} gave {as_written(one)}, and {as_written(other)} is right")

    def _compare_doubled(
        self, trial: Trial, function: Callable[..., Any], subject: Any, case: Call, right: Run
    ) -> None:  # fmt: skip
        try:
            self._compare(trial, function, subject, case, right, Way(double=True), [])
        except Wrong as error:
            cause = error.__cause__
            if self.cases.double and not (cause and passed_through(cause, trial.uses)):
                raise
            _remark(trial, "It works in float32 alone, which is all that is asked here", error)

    def _compare_slopes(
        self, trial: Trial, function: Callable[..., Any], subject: Any, case: Call, right: Slopes
    ) -> None:  # fmt: skip
        handed, words = hand_over(case, self.names, right.way, subject), self._words(trial, case)
        asks = _asks(handed)

        def forth_and_back() -> dict[str, Tensor | None]:
            return gradients(self._seen(function(*handed.arguments, **handed.settings)), handed, right.weighted)

        got = trial.run(f"the gradient of {words}", forth_and_back)
        if _asks(handed) != asks:
            raise Wrong(f"{words} changed whether its input asks for gradients: `detach()`, without the underscore")
        own = self._own_names(subject)
        for name in right.slopes:
            _same_slopes(got.get(own.get(name, name)), right, name, own.get(name, name), words, self.cases.slope_rtol)
        if right.way.moved and not any(isinstance(one, nn.Module) for one in handed.arguments):
            trial.run(f"the gradient of {words}, called with the same tensors once more,", forth_and_back)

    def _try_without_tracking(self, trial: Trial, function: Callable[..., Any], subject: Any) -> None:
        """Under ``torch.no_grad()`` nothing is tracked, also behind the attempt."""
        case = next((case for case, slopes in zip(self.calls, self.slopes, strict=True) if slopes), None)
        if case is None:
            return
        handed = hand_over(case, self.names, Way(slopes=self._wants), subject)
        words = f"under `torch.no_grad()`, {self._words(trial, case)}"

        def untracked() -> tuple[Any, bool]:
            with torch.no_grad():
                return self._seen(function(*handed.arguments, **handed.settings)), torch.is_grad_enabled()

        result, tracks = trial.run(words, untracked)
        if tracks or any(isinstance(one, Tensor) and one.requires_grad for _, one in leaves(result)):
            raise Wrong(f"{words} switches the tracking of gradients on again, which is not for it to decide")


@dataclass(frozen=True)
class Slopes:
    """The gradients at the inputs, handed over in a way, of the sum of all results; ``clear`` is where they are beyond
    doubt: at a kink they are a matter of taste."""

    way: Way
    weighted: bool
    slopes: dict[str, Tensor | None]
    clear: dict[str, Tensor]
    noise: dict[str, float]

    @property
    def words(self) -> str:
        """What a message says of the sum and of the inputs."""
        return (" of the weighted sum of all results" if self.weighted else "") + (
            ", at inputs a little aside," if self.way.moved else ""
        )


def _size(tensors: dict[str, Any] | None) -> float:
    """The largest size of a number in any of these that are tensors."""
    found = [one.detach() for one in (tensors or {}).values() if isinstance(one, Tensor) and one.numel()]
    return max((one.double().nan_to_num(0.0, 0.0, 0.0).abs().max().item() for one in found), default=0.0)


def _near(there: Tensor | None, slope: Tensor | None) -> Tensor:
    """Where slopes a little aside are those here, so that there is no kink between."""
    assert slope is not None
    if there is None:
        return torch.zeros_like(slope, dtype=torch.bool)
    return torch.isclose(there, slope, rtol=2e-2, atol=1e-6 * _size({"": slope}))


def _remark(trial: Trial, remark: str, error: Wrong) -> None:
    if not any(remark in said for said in trial.remarks):
        trial.remarks.append(f"{remark}: {error}.")


def _of_float32(got: Any, right: Run) -> str:
    """What to say of a result in float64 that has the digits of float32."""
    near = same_tensors(got, right.result, 1e-5, 0.0) and got.dtype == torch.float64
    return "these are the digits of float32, so something in it is float32 whatever comes in" if near else ""


def same_tensors(got: Any, right: Any, rtol: float, atol: float) -> bool:
    """Whether two tensors of one shape are about the same, whatever their dtypes."""
    if not isinstance(got, Tensor) or not isinstance(right, Tensor) or got.shape != right.shape:
        return False
    return torch.allclose(got.detach().double(), right.detach().double(), rtol, atol, equal_nan=True)


def unchanged(seen: list[tuple[str, Tensor, Tensor]], words: str) -> None:
    """Raise :class:`Wrong` if a call changed what earlier calls had given: ``seen``, with copies."""
    for earlier, tensor, copy_ in seen:
        if tensor.shape != copy_.shape or not same_tensors(tensor, copy_, 0.0, 0.0):
            raise Wrong(f"{words} changed the result of {earlier}, an earlier call: give a new tensor each time")


# --------------------------------------------------------------------------------------------------- GPU


def _try_on_gpu(
    trial: Trial, function: Callable[..., Any], case: Call, names: Sequence[str], subject: Any = None,
    view: Callable[[Any], Any] = lambda result: result, words: str = "",
) -> None:  # fmt: skip
    """Where a GPU is imitated; what cannot be imitated, such as ``torch.vmap``, may do on the device ``meta``."""
    words = f"on a GPU, {words or words_of(trial.name, case.arguments, case.settings)}"
    handed, wrong, gpu = hand_over(case, names, Way(put=OnGpu.put), subject), None, OnGpu()
    try:
        with gpu:
            result = trial.run(words, function, *handed.arguments, **handed.settings)
        strangers = [path for path, one in leaves(view(result)) if isinstance(one, Tensor) and not OnGpu.has(one)]
        if strangers:
            gpu.lost = True  # or made by code that cannot be looked into, such as ``torch.jit``
            wrong = Wrong(
                f"{words}{strangers[0]} gives a tensor on the CPU, whatever device the input is on: write "
                "`device=x.device` where you make one"
            )
    except Wrong as error:
        wrong = error if isinstance(error.__cause__, WrongDevice) else None
    if wrong and not (gpu.lost and _runs_on_meta(trial, function, hand_over(case, names, Way(), subject), view)):
        raise wrong


def _runs_on_meta(trial: Trial, function: Callable[..., Any], handed: Handed, view: Callable[[Any], Any]) -> bool:
    settings = {key: _to_meta(value) for key, value in handed.settings.items()}
    try:
        result = trial.run("meta", function, *map(_to_meta, handed.arguments), **settings)
    except Wrong:
        return False
    found = [entry for _, entry in leaves(view(result)) if isinstance(entry, Tensor)]
    return all(entry.device.type == "meta" for entry in found)


def _to_meta(value: Any) -> Any:
    if isinstance(value, (Tensor, nn.Module)):
        return value.to("meta")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_to_meta, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(_to_meta, value))
    return {key: _to_meta(part) for key, part in value.items()} if isinstance(value, dict) else value


def _kept(value: Any) -> Any:
    """A result with tensors of its own, which nothing that happens later changes."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad and value.dtype.is_floating_point)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_kept, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(_kept, value))
    return {key: _kept(part) for key, part in value.items()} if isinstance(value, dict) else value


def _in_order(right: Any, got: Any) -> Any:
    """A dictionary with its keys in the order of another's."""
    return {key: right[key] for key in got} if isinstance(right, dict) else right


def _asks(handed: Handed) -> dict[str, bool]:
    return {name: tensor.requires_grad for name, tensor in handed.tensors.items()}


def _with(text: str, why: str) -> str:
    return f"{text}: {why}" if why else text


def same_inputs(handed: Handed, right: Run, words: str, rtol: float, atol: float) -> None:
    """Raise :class:`Wrong` unless the inputs are then what the reference leaves of them, mostly what they were."""
    for name, tensor in handed.tensors.items():
        if name in right.after and tensor.requires_grad != right.after[name].requires_grad:
            raise Wrong(f"{words} changed whether its input {name} asks for gradients: leave its flags alone")
        if name not in right.after or torch.equal(tensor.nan_to_num(), right.after[name].nan_to_num()):
            continue
        if torch.equal(right.before[name].nan_to_num(), right.after[name].nan_to_num()):
            raise Wrong(f"{words} changed its input {name}: make a new tensor in place of changing this one")
        equal_values(tensor, right.after[name], f"{words}, which is to change {name},", rtol, atol)


def gradients(result: Any, handed: Handed, weighted: bool = True) -> dict[str, Tensor | None]:
    """The gradient of the sum of all entries of a result, weighted or plain, with respect to what asks for one; None if
    none is. Weights tell entries apart that change places, and those of a softmax, whose sum never changes."""
    wanted = {name: tensor for name, tensor in handed.tensors.items() if tensor.requires_grad}
    total: Any = 0.0
    for _, entry in leaves(result):
        if isinstance(entry, Tensor) and entry.requires_grad:
            weights = 0.5 + (0.618 * torch.arange(entry.numel()).square()).frac().reshape(entry.shape)
            total = total + (entry * weights if weighted and entry.ndim else entry).sum()
    if not isinstance(total, Tensor):
        return dict.fromkeys(wanted)
    found = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
    return dict(zip(wanted, found, strict=True))


def _same_slopes(
    got: Tensor | None, wanted: Slopes, name: str, own: str, words: str, rtol: float
) -> None:  # fmt: skip
    right, known = wanted.slopes[name], wanted.clear.get(name)
    if right is None or known is None:
        if got is not None and got.any():
            raise Wrong(f"in {words}, a gradient reaches {own}, and none is to: detach it")
        return
    if not known.any():
        return
    atol = max(1e-5 * right[known].abs().max().item(), wanted.noise.get(name, 0.0))
    if (right[known].abs() > atol).any() and (got is None or not got.any()):
        raise Wrong(
            f"in {words}, no gradient flows back to {own}: was the tensor detached, made anew, or computed under "
            "`torch.no_grad()`?"
        )
    got = torch.zeros_like(right) if got is None else got
    off = known & ~torch.isclose(got, right, rtol=rtol, atol=atol)
    if off.any():
        at = tuple(torch.nonzero(off)[0].tolist())
        one, other = apart(got[at].item(), right[at].item())
        where = f" at {list(at)}" if right.numel() > 1 else ""
        raise Wrong(
            f"in {words}, the gradient{wanted.words} with respect to {own} is {one}{where}, and {other} is right"
        )


# -------------------------------------------------------------------------- for checks that lessons write


def show(value: Any) -> str:
    """A value in few characters: the numbers of a tensor, with four digits."""
    if not isinstance(value, Tensor):
        return f"{value:g}" if isinstance(value, float) else repr(value)
    if value.numel() > 8:
        return f"a tensor of shape {tuple(value.shape)}"
    return str(_rounded(value.detach().tolist()))


def _rounded(value: Any) -> Any:
    return [_rounded(entry) for entry in value] if isinstance(value, list) else float(f"{value:.4g}")


def same_values(
    attempt: Callable[..., Any], right: Callable[..., Any], *cases: tuple[Any, ...], rtol: float = 1e-4,
    atol: float = 1e-6,
) -> None:  # fmt: skip
    """Raise :class:`Wrong` at the first case, a tuple of arguments, in which the two differ; values and inputs only."""
    calls = [call(*arguments, slopes=False, double=False) for arguments in cases]
    plan = Plan(Cases(lambda: calls, rtol=rtol, atol=atol), right)
    plan.on_gpu = []
    plan.judge(_trial(attempt, right))


def same_gradients(
    attempt: Callable[[Tensor], Tensor], right: Callable[[Tensor], Tensor], inputs: Tensor, rtol: float = 1e-4
) -> None:
    """Raise :class:`Wrong` where the slope of the attempt differs from the right one."""
    plan = Plan(Cases(lambda: [call(inputs, double=False)], slope_rtol=rtol), right)
    trial = _trial(attempt, right)
    for slopes in plan.slopes[0]:
        plan._compare_slopes(trial, trial.attempt, None, plan.calls[0], slopes)


def runs_on_meta(attempt: Callable[..., Any], *arguments: Any) -> None:
    """Raise :class:`Wrong` if a call makes tensors of its own on the CPU while its inputs are on a GPU."""
    trial = _trial(attempt, attempt)
    _try_on_gpu(trial, trial.attempt, call(*arguments), [f"argument {i}" for i in range(len(arguments))])


def _trial(attempt: Callable[..., Any], right: Callable[..., Any]) -> Trial:
    if isinstance(attempt, Trial):
        return attempt
    return Trial(getattr(right, "__name__", "it"), attempt, Watch())


def checks_of(checks: Sequence[Any], reference: Any) -> list[Callable[[Trial], None]]:
    """The checks of an exercise, ready for a trial: expected values are computed before an attempt runs."""
    return [one.against(reference) if isinstance(one, Cases) else one for one in checks]
