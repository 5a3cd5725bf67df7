"""Where attempts run: apart from the notebook, for a limited time, and with words for whatever goes wrong.

:func:`isolated` puts everything that a process has only once into a known state and puts it back afterwards; a
:class:`Trial` calls an attempt in there and raises :class:`Wrong`, which says what a learner is to know.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import inspect
import io
import linecache
import math
import os
import random
import re
import signal
import sys
import sysconfig
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer_helpers.course.gpu import WrongDevice

SECONDS = 10.0
"""How long the checks of one attempt may take."""
PLACES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), torch.__path__[0], Path(__file__).parents[1])
LIBRARIES = tuple({*map(str, PLACES), *(str(Path(folder).resolve()) for folder in PLACES)})
"""Code below these folders is not the learner's."""


class Wrong(AssertionError):
    """What is wrong with an attempt, in words for its author."""


# ------------------------------------------------------------------------------------------- global state


def _random_states() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _restore_random(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0]), np.random.set_state(states[1]), random.setstate(states[2])


def _set_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated() if hasattr(warnings, "_filters_mutated") else None  # its cache of what was shown


def _set_environment(values: dict[str, str]) -> None:
    for name in set(os.environ) - set(values):
        del os.environ[name]
    os.environ.update(values)


def _set_print_options(options: dict[str, Any]) -> None:
    vars(torch._tensor_str.PRINT_OPTS).update(options)


@dataclass(frozen=True)
class Setting:
    """Something that a process has once: what it is called, how it is read and set, and its value in a check."""

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], object]
    here: Any = None  # None: as the notebook has it
    lazy: bool = False  # changes too when torch loads more of itself


QUICK = (
    Setting("the gradient mode", torch.is_grad_enabled, torch.set_grad_enabled, True),
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    Setting("the default device", torch.get_default_device, _set_device, torch.device("cpu")),
    Setting("torch's seed", torch.initial_seed, lambda _: None),  # what was drawn is put back by itself
)
"""Looked at after every call."""
SLOW = (
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads, 1),  # small tensors: one is faster
    Setting(
        "whether torch's algorithms are deterministic",
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms,
    ),
    Setting(
        "the precision of matrix products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    Setting(
        "cuDNN's flags",
        lambda: (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        lambda on: (
            setattr(torch.backends.cudnn, "benchmark", on[0]), setattr(torch.backends.cudnn, "deterministic", on[1])
        ),
    ),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, False),
    Setting("torch's print options", lambda: dict(vars(torch._tensor_str.PRINT_OPTS)), _set_print_options),
    Setting("NumPy's print options", np.get_printoptions, lambda options: np.set_printoptions(**options)),
    Setting("NumPy's handling of errors", np.geterr, lambda how: np.seterr(**how)),
    Setting("the filters of warnings", lambda: list(warnings.filters), _set_filters, lazy=True),
    Setting("the limit of recursions", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the environment's variables", lambda: dict(os.environ), _set_environment, lazy=True),
    Setting("the working directory", os.getcwd, os.chdir),
)  # fmt: skip
"""Looked at when the checks of an attempt are done."""


def _libraries() -> dict[str, Any]:
    own = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "dreamer_helpers"}
    apart = {name: module for name, module in own.items() if not name.startswith("dreamer_helpers.course.")}
    known = {
        "builtins": builtins, "math": math, "random": random, "np": np, "torch": torch, "torch.Tensor": Tensor,
        "torch.nn": torch.nn, "torch.nn.functional": F, "torch.testing": torch.testing,
    }  # fmt: skip
    return {**known, **apart}


class Attributes:
    """What the names of torch, NumPy and the package stood for at one moment."""

    def __init__(self) -> None:
        self.kept = {name: (owner, dict(vars(owner))) for name, owner in _libraries().items() if owner is not None}

    def restore(self) -> list[str]:
        """Put all of them back; what had been changed."""
        changed = []
        for name, (owner, values) in self.kept.items():
            now = vars(owner)
            for key, value in values.items():
                new = now.get(key, self)
                if new is value or key in ("_", "__warningregistry__") or _is_torchs(new):
                    continue
                setattr(owner, key, value)
                changed.append(f"{name}.{key}")
            if inspect.isclass(owner):  # where a new name hides an inherited one
                for key in [key for key, new in now.items() if key not in values and not _is_torchs(new)]:
                    delattr(owner, key)
                    changed.append(f"{name}.{key}")
        return changed


def _is_torchs(value: Any) -> bool:
    """Whether torch itself put something there: it loads parts of itself when they are needed."""
    return callable(value) and str(getattr(value, "__module__", "")).startswith(("torch._", "torch.random"))


ORIGINALS = Attributes()
"""As they were when the course was loaded: expected values are computed with these."""


@contextlib.contextmanager
def originals() -> Iterator[None]:
    """Inside, torch, NumPy and the package are as they were when the course was loaded."""
    now = Attributes()
    ORIGINALS.restore()
    try:
        yield
    finally:
        now.restore()


class Watch:
    """Sees what an attempt does to the process, and undoes it."""

    def __init__(self) -> None:
        self.quick = [setting.get() for setting in QUICK]
        self.slow = [setting.get() for setting in SLOW]
        self.random, self.attributes, self.modules = _random_states(), Attributes(), len(sys.modules)

    @staticmethod
    def _settle(settings: Sequence[Setting], values: list[Any]) -> list[str]:
        changed = []
        for setting, value in zip(settings, values, strict=True):
            if setting.get() != value:
                setting.set(value)
                changed.append(setting.name)
        return changed

    def settle(self) -> list[str]:
        """Undo what is looked at after every call; names it."""
        changed = self._settle(QUICK, self.quick)
        _restore_random(self.random)
        return changed

    def settle_all(self) -> list[str]:
        """Undo everything; names it. What torch changes when it loads more of itself is nobody's fault."""
        loaded = len(sys.modules) != self.modules
        lazy = {setting.name for setting in SLOW if setting.lazy and loaded}
        slow = [name for name in self._settle(SLOW, self.slow) if name not in lazy]
        return self.settle() + slow + self.attributes.restore()


@contextlib.contextmanager
def isolated() -> Iterator[Watch]:
    """A known state of the process; the notebook's own comes back, its random numbers too."""
    before = Watch()
    try:
        for setting in (*QUICK, *SLOW):
            if setting.here is not None and setting.get() != setting.here:
                setting.set(setting.here)
        warnings.simplefilter("ignore")
        with torch.inference_mode(False), torch.autocast("cpu", enabled=False):
            yield Watch()
    finally:
        before.settle_all()


# ------------------------------------------------------------------------------------------------- time


class TimeUp(BaseException):
    """The attempt took too long. Not an Exception, so that ``except Exception`` in an attempt lets it through."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`TimeUp` inside after so many seconds, in a loop without end too."""
    main = threading.current_thread() is threading.main_thread()
    with _by_alarm(seconds) if main and hasattr(signal, "setitimer") else _by_thread(seconds):
        yield


class _Deadline:
    """When time is up: after ``seconds``, and as long again after an import, which must not be torn apart."""

    def __init__(self, seconds: float):
        self.seconds, self.until = seconds, 0.0

    def is_over(self, frame: FrameType | None) -> bool:
        """Whether to stop what runs in this frame."""
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                self.until = time.monotonic() + self.seconds
            frame = frame.f_back
        return time.monotonic() >= self.until


@contextlib.contextmanager
def _by_alarm(seconds: float) -> Iterator[None]:
    deadline, begun = _Deadline(seconds), time.monotonic()

    def stop(_: int, frame: FrameType | None) -> None:
        if deadline.is_over(frame):
            raise TimeUp

    handler = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)  # again, if a bare `except` swallows it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - begun), 0.01), interval)


@contextlib.contextmanager
def _by_thread(seconds: float) -> Iterator[None]:
    """For threads that no signal reaches, and for Windows."""
    number, over, lock, deadline = threading.get_ident(), threading.Event(), threading.Lock(), _Deadline(seconds)
    thread = ctypes.c_ulong(number)

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            with lock:
                if not over.is_set() and deadline.is_over(sys._current_frames().get(number)):
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeUp))
            wait = 0.5

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        with lock:
            over.set()
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)  # what has not arrived yet


# ----------------------------------------------------------------------------------------------- errors


MEANINGS = {
    r"same device|device meta|is on cuda|is on cpu|can't convert cuda|meta tensor": (
        "a tensor made inside your function stands on the CPU, or leaves the GPU; write `device=x.device` where you "
        "make one, and keep to torch"
    ),
    r"iteration over a 0-d|len\(\) of a 0-d|invalid index of a 0-dim|dimension.* out of range": (
        "the input may have any shape, also none: a single number has no rows to count, loop over or index"
    ),
    r"view size is not compatible": "the numbers do not lie side by side in memory; write `reshape` in place of `view`",
    r"numpy\(\) on Tensor that requires grad": "NumPy knows no gradients; use torch's functions",
    r"only one element tensors|elements cannot be converted to Scalar|only integer tensors of a single": (
        "functions of `math` take one number; torch has the same for whole tensors"
    ),
    r"truth value|Boolean value of Tensor": (
        "`if`, `and` and `or` take one truth value; choose among the elements of a tensor with `torch.where` or a mask"
    ),
    r"leaf Variable|modified by an inplace operation|a view of a leaf": (
        "a tensor that a gradient needs is changed in place; make a new one"
    ),
    r"self\.dtype to be equal to src\.dtype|same dtype|expected scalar type|source and destination dtypes": (
        "a tensor made inside your function has another dtype than the input; write `dtype=x.dtype` where you make it"
    ),
    r"non-empty TensorList|no identity|numel\(\) == 0|0 elements": "the input may be empty",
    r"'ellipsis'|type ellipsis": "a `...` is still in it",
}
"""What messages of torch mean, by what is to be found in them."""


CALLED_OTHERWISE = r"positional argument|unexpected keyword argument|keyword-only argument"


def meaning(error: BaseException) -> str:
    """The first line of an error, and what it means if torch alone would know."""
    first = _first_line(error)
    text = f"{type(error).__name__}: {first}".rstrip(": ")
    if isinstance(error, TypeError) and not was_learners(error) and re.search(CALLED_OTHERWISE, first):
        return f"{text} (keep the parameters as they are in the stub)"
    if isinstance(error, RecursionError):
        return f"{text} (it calls itself without end)"
    for pattern, words in MEANINGS.items():
        if re.search(pattern, str(error)):
            return f"{text} ({words})"
    return text


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0].rstrip(". ")


def is_learners(file: str) -> bool:
    """Whether code of this file is a learner's: of a cell, a script, a passport."""
    return not file.startswith(("<frozen", "<__array_function__")) and not str(file).startswith(LIBRARIES)


def place(error: BaseException) -> str:
    """``, in the line `...```: where in a learner's code an error arose; empty if it was not there."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_learners(frame.filename):
            line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
            return f", in the line `{line if len(line) < 100 else line[:97] + '...'}`" if line else ""
    return ""


def was_learners(error: BaseException) -> bool:
    """Whether an error arose in a learner's code, or in what it called."""
    return any(is_learners(frame.filename) for frame in traceback.extract_tb(error.__traceback__))


def passed_through(error: BaseException, names: Sequence[str]) -> bool:
    """Whether a function of one of these names was running when an error arose."""
    return any(frame.name in names for frame in traceback.extract_tb(error.__traceback__))


# ------------------------------------------------------------------------------------------------- words


def as_written(value: Any) -> str:
    """A value as a learner would write it; of a large tensor, the shape."""
    if isinstance(value, Tensor):
        if value.numel() > 8:
            return f"a tensor of shape {tuple(value.shape)}"
        kind = "" if value.dtype in (torch.float32, torch.int64, torch.bool) else f", dtype={value.dtype}"
        return f"tensor({_rounded(value.detach().tolist())}{kind})"
    if isinstance(value, float):
        return _rounded(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"{type(value).__name__}({', '.join(map(as_written, value))})"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(map(as_written, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, torch.nn.Module):
        return f"a {type(value).__name__}"
    if isinstance(value, torch.Generator):
        return "generator"
    return getattr(value, "words", None) or repr(value)


def _rounded(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_rounded, value))}]"
    return repr(float(f"{value:.7g}")) if isinstance(value, float) else repr(value)


def words_of(name: str, arguments: Sequence[Any], settings: dict[str, Any]) -> str:
    """A call in words: ``symlog(tensor(2.5))``."""
    named = [f"{key}={as_written(value)}" for key, value in settings.items()]
    return f"{name}({', '.join([*map(as_written, arguments), *named])})"


# ------------------------------------------------------------------------------------------------ trials


@dataclass
class Trial:
    """An attempt, called in isolation: ``trial(x)``. Raises :class:`Wrong` for an error, or for what it changes.

    ``remarks`` collects what is worth saying about an attempt that is right, ``uses`` names other exercises, and
    ``theirs`` is the code that an attempt is to replace and must not call.
    """

    name: str
    attempt: Any
    watch: Watch
    uses: tuple[str, ...] = ()
    remarks: list[str] = field(default_factory=list)
    theirs: frozenset[CodeType] = frozenset()

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Call the attempt; for checks that lessons write themselves."""
        return self.run(words_of(self.name, arguments, settings), self.attempt, *arguments, **settings)

    @property
    def __name__(self) -> str:
        return self.name

    def run(self, words: str, function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        """Call something of the learner's, which ``words`` describe, and clean up behind it."""
        entered: list[CodeType] = []
        try:
            with contextlib.redirect_stdout(io.StringIO()), _watched(self.theirs, entered):
                result = function(*arguments, **settings)
            if entered:
                raise Wrong(f"it calls the course's own {entered[0].co_name}; write it yourself")
            return result
        except Wrong:
            raise
        except SystemExit:
            raise Wrong(f"{words} ended the program (SystemExit)") from None
        except WrongDevice as error:
            raise Wrong(f"{words} fails, as {_first_line(error)}{place(error)}") from error
        except Exception as error:  # whatever a learner's code may raise
            raise Wrong(f"{words} raised {meaning(error)}{place(error)}") from error
        finally:
            self._tidy(words)

    def _tidy(self, words: str) -> None:
        if changed := self.watch.settle():
            raise Wrong(disturbed(words, changed))


@contextlib.contextmanager
def _watched(codes: frozenset[CodeType], entered: list[CodeType]) -> Iterator[None]:
    """Note in ``entered`` which of these codes are called inside, whatever name leads to them."""

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and any(frame.f_code is code for code in codes):
            entered.append(frame.f_code)

    before = sys.getprofile()
    if codes:
        sys.setprofile(note)
    try:
        yield
    finally:
        if codes:
            sys.setprofile(before)


def codes_of(reference: Any) -> frozenset[CodeType]:
    """The code of a function, or of the methods of a class."""
    functions = vars(reference).values() if inspect.isclass(reference) else [reference]
    return frozenset(one.__code__ for one in functions if inspect.isfunction(one))


def disturbed(words: str, changed: Sequence[str]) -> str:
    """The sentence about an attempt that changes what belongs to all."""
    few = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
    return f"{words} changes {few}, which all other code shares; it was put back. Do without, or undo it yourself"


@dataclass
class Outcome:
    """What came of a trial: what is wrong, empty if nothing is, and remarks about what is right."""

    wrong: str = ""
    remarks: list[str] = field(default_factory=list)


def hold(
    name: str, attempt: Any, checks: Sequence[Callable[[Trial], None]], uses: tuple[str, ...] = (),
    seconds: float | None = None, reference: Any = None,
) -> Outcome:  # fmt: skip
    """Hold an attempt against checks, in isolation. It must not call the reference. Never raises, not even when
    interrupted."""
    outcome, seconds = Outcome(), seconds or SECONDS
    try:
        with isolated() as watch:
            theirs = frozenset() if attempt is reference else codes_of(reference)
            trial = Trial(name, attempt, watch, uses, outcome.remarks, theirs)
            try:
                with time_limit(seconds):
                    for one in checks:
                        outcome.wrong = outcome.wrong or _tried(one, trial)
            except BaseException as error:  # an interrupt too: the name must not be left without the course's own
                outcome.wrong = _stopped(error, seconds)
            if changed := watch.settle_all():  # which explains whatever else is wrong
                outcome.wrong = disturbed(f"{name}(...)", changed)
    except (KeyboardInterrupt, TimeUp):
        outcome.wrong = outcome.wrong or "the check was interrupted"
    return outcome


def guarded(function: Callable[[], Any], seconds: float | None = None) -> tuple[Any, str]:
    """The result of a function that runs a learner's code, in isolation; or None, and what is wrong."""
    seconds = seconds or SECONDS
    try:
        with isolated(), time_limit(seconds), contextlib.redirect_stdout(io.StringIO()):
            return function(), ""
    except BaseException as error:
        return None, _stopped(error, seconds)


def _tried(one: Callable[[Trial], None], trial: Trial) -> str:
    """What a check says; empty if it is content."""
    try:
        one(trial)
    except Wrong as error:
        return str(error)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        if (
            isinstance(error, AssertionError)
            and frames[-1].filename == getattr(one, "__code__", _tried.__code__).co_filename
        ):
            return str(error)
        if was_learners(error):
            return f"it raised {meaning(error)}{place(error)}"
        return f"the check itself failed over what yours gave, which need not be your fault: {meaning(error)}"
    return ""


def _stopped(error: BaseException, seconds: float) -> str:
    if isinstance(error, TimeUp):
        slow = "is it too slow, or is there a loop that never ends?"
        return f"it was stopped after {seconds:g} seconds{place(error)}: {slow}"
    if isinstance(error, KeyboardInterrupt):
        return f"the check was interrupted{place(error)}"
    return f"it raised {meaning(error)}{place(error)}"
