"""The kit of checks, held against toy exercises of every form that a lesson may ask for, and faults in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_helpers.course.checking import Cases, Wrong, batches, call, checks_of, equal_values, made, seeded
from dreamer_helpers.course.gpu import OnGpu, WrongDevice
from dreamer_helpers.course.judging import hold


class Pair(NamedTuple):
    """A result with names."""

    low: Tensor
    high: Tensor


class Belief:
    """An object that holds tensors, as a distribution does."""

    def __init__(self, logits: Tensor):
        self.logits = logits


class Layer(nn.Module):
    """A module with weights and a method of its own."""

    def __init__(self, size: int, out: int = 2):
        super().__init__()
        self.linear = nn.Linear(size, out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x))

    def energy(self, x: Tensor) -> Tensor:
        return self.forward(x).square().sum(-1)


class Counter(nn.Module):
    """A module that a call changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.total += x.detach().sum()
        return self.total.clone()


def square(x: Tensor) -> Tensor:
    return x * x


def bounds(x: Tensor, by: float = 1.0) -> Pair:
    return Pair(x - by, x + by)


def losses(first: Belief, second: Belief, free: float) -> dict[str, Tensor]:
    gap = (first.logits - second.logits).square().sum(-1)
    return {"dyn": gap.detach() + 0 * second.logits.sum(-1), "rep": gap.clamp(min=free)}


def step(layer: Layer, h: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    h = layer(torch.cat([h, a], -1))
    return h, h.square().sum(-1)


def draw(probs: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(probs.shape[:-1] + (1,), generator=generator, device=probs.device)
    index = (probs.cumsum(-1)[..., :-1] <= uniform).sum(-1)
    return F.one_hot(index, probs.shape[-1]) + probs - probs.detach()


def pick(table: Tensor, index: Tensor) -> Tensor:
    return table[index]


def count(counter: Counter, x: Tensor) -> Tensor:
    return counter(x)


def lengths(flags: Tensor) -> list[int]:
    return [int(row.sum()) for row in flags]


X, Y = torch.linspace(-1.0, 2.0, 30).reshape(2, 3, 5), torch.linspace(1.0, -2.0, 30).reshape(2, 3, 5).sin()
CASES: dict[Callable[..., Any], Cases] = {
    square: Cases(lambda: batches(1.0, -2.0, 300.0, 1e-6, 0.0), atol=0.0),
    bounds: Cases(lambda: [*batches(1.0, -3.0), call(torch.ones(2), by=2.0)]),
    losses: Cases(lambda: [call(made(Belief, X), made(Belief, Y), free) for free in (0.0, 6.0)]),
    step: Cases(lambda: [call(Layer(7), X, Y[..., :2])]),
    draw: Cases(lambda: [call(torch.softmax(3 * X, -1), seeded(7))]),
    pick: Cases(lambda: [call(torch.arange(6.0).reshape(3, 2), torch.tensor([2, 0, 1]))]),
    count: Cases(lambda: [call(Counter(), torch.ones(3))]),
    lengths: Cases(lambda: [call(torch.tensor([[True, False], [True, True]]))]),
    Layer: Cases(lambda: [call(X)], build=(5,)),
}
ENERGY = Cases(lambda: [call(X)], build=(5,), method="energy")


class Renamed(nn.Module):
    """Layer, written another way."""

    def __init__(self, size: int, out: int = 2):
        super().__init__()
        self.dense = nn.Linear(size, out)

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.sigmoid(2 * self.dense(x)) - 1


class Wider(Layer):
    """A layer of another size."""

    def __init__(self, size: int, out: int = 3):
        super().__init__(size, out)


class Frozen(Layer):
    """A layer whose weights learn nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(F.linear(x, self.linear.weight.detach(), self.linear.bias))


RIGHT = [
    (square, lambda x: x**2), (square, lambda x: torch.stack([x, x]).prod(0)), (bounds, lambda x, by=1.0: Pair(x + -by, by + x)),
    (losses, lambda p, q, f: {k: losses(p, q, f)[k] for k in ("rep", "dyn")}),
    (step, lambda m, h, a: (m(torch.cat([h, a], -1)), m(torch.cat([h, a], -1)).norm(dim=-1) ** 2)),
    (draw, lambda p, g: draw(p, g) * 1.0), (pick, lambda t, i: t.index_select(0, i)),
    (count, lambda c, x: c(x) + 0), (lengths, lambda flags: flags.sum(1).tolist()), (Layer, Renamed),
]  # fmt: skip
FAULTS = [
    (square, lambda x: x.abs() ** 1.9999, "square(tensor(300.0)) gave 89950.0, and 90000.0 is right"),
    (square, lambda x: (x * x).sum(), "has shape (), not (5,)"),
    (square, lambda x: x.mul_(x), "changed its input x"),
    (square, lambda x: (x * x).detach(), "no gradient flows back to x"),
    (square, lambda x: (x.float() * x.float()).to(x.dtype), "in float64 gave"),
    (square, lambda x: x * x * torch.ones(x.shape, dtype=x.dtype), "on a GPU"),
    (square, lambda x: x * x + 1e-8, "square(tensor(1e-06)) gave 1e-08, and 1e-12 is right"),
    (square, lambda x: torch.stack([v * v for v in x]), "iteration over a 0-d tensor"),
    (square, lambda x: (x.view(-1) ** 2).view(x.shape), "not contiguous raised"),
    (square, lambda x: torch.ones(0) if x.numel() == 0 and x.ndim == 2 else x * x * x / x, "gave nan, and 0.0 is right"),
    (bounds, lambda x, by=1.0: (x - by, x + by), "gave 2 values, and Pair(low, high) is right"),
    (bounds, lambda x, by=1.0: Pair(x - by, x), "bounds(tensor(1.0)).high gave 1.0, and 2.0 is right"),
    (bounds, lambda x: Pair(x - 1, x + 1), "unexpected keyword argument 'by'"),
    (losses, lambda p, q, f: {"dyn": losses(p, q, f)["dyn"]}, "a dictionary with 'dyn', and a dictionary with 'dyn', 'rep'"),
    (losses, lambda p, q, f: {**losses(p, q, f), "rep": losses(p, q, 0.0)["rep"]}, "['rep'] gave"),
    (losses, lambda p, q, f: losses(Belief(p.logits.detach()), q, f), "no gradient flows back to first"),
    (losses, lambda p, q, f: losses(p, Belief(q.logits.detach()), f), "no gradient flows back to second"),
    (step, lambda m, h, a: step(m, a, h), "step(a Layer, "),
    (step, lambda m, h, a: step(m, h, a)[0], "gave a tensor, and 2 values is right"),
    (step, lambda m, h, a: tuple(part.detach() for part in step(m, h, a)), "no gradient flows back"),
    (step, lambda m, h, a: [m.linear.weight.data.mul_(2), step(m, h, a)][1], "changed its input layer.linear.weight"),
    (draw, lambda p, g: draw(p, torch.Generator().manual_seed(1)), "generator) gave"),
    (draw, lambda p, g: draw(p, g).detach(), "no gradient flows back to probs"),
    (pick, lambda t, i: t[i.flip(0)], "pick(tensor("),
    (count, lambda c, x: c.total + x.sum(), "which is to change counter.total, gave 0.0, and 3.0 is right"),
    (lengths, lambda flags: [2, 2], "[0] gave 2, and 1 is right"),
    (Layer, Wider, "Layer(5) has weights of the shapes"),
    (Layer, Frozen, "no gradient flows back to its weights.linear.weight"),
    (Layer, nn.Linear, "missing 1 required positional argument"),
]  # fmt: skip


def told(reference: Any, attempt: Any, cases: Cases | None = None) -> tuple[str, list[str]]:
    """What the kit says of an attempt, and its remarks."""
    outcome = hold(reference.__name__, attempt, checks_of((cases or CASES[reference],), reference))
    return outcome.wrong, outcome.remarks


@pytest.mark.parametrize("reference", list(CASES))
def test_the_reference_is_right(reference: Any) -> None:
    assert told(reference, reference) == ("", [])


@pytest.mark.parametrize(("reference", "attempt"), RIGHT)
def test_written_otherwise_it_is_right(reference: Any, attempt: Any) -> None:
    assert told(reference, attempt) == ("", [])


@pytest.mark.parametrize(("reference", "attempt", "words"), FAULTS)
def test_a_fault_is_named(reference: Any, attempt: Any, words: str) -> None:
    wrong = told(reference, attempt)[0]
    assert words in wrong, wrong
    assert "\n" not in wrong


def test_another_method_of_a_class_can_be_asked() -> None:
    class Mine(Layer):
        def energy(self, x: Tensor) -> Tensor:
            return self(x).norm(dim=-1) ** 2

    class Sum(Layer):
        def energy(self, x: Tensor) -> Tensor:
            return self(x).sum(-1)

    assert told(Layer, Mine, ENERGY) == ("", [])
    assert "Layer(5)(a tensor of shape (2, 3, 5)) gave" in told(Layer, Sum, ENERGY)[0]


def test_what_comes_of_a_view_is_compared() -> None:
    def blend(x: Tensor) -> tuple[Tensor, Belief]:
        return x, Belief(2 * x)

    cases = Cases(lambda: [call(X)], view=lambda out: (out[0], out[1].logits))
    assert told(blend, lambda x: (x * 1, Belief(x + x)), cases) == ("", [])
    assert "[1] gave" in told(blend, lambda x: (x, Belief(x)), cases)[0]
    assert "has not the right form: AttributeError" in told(blend, lambda x: (x, x), cases)[0]


def test_gradients_are_asked_where_the_exercise_says_so() -> None:
    def mix(x: Tensor, y: Tensor) -> Tensor:
        return x * y.detach()

    both, one = Cases(lambda: [call(X, Y)]), Cases(lambda: [call(X, Y)], gradient=("x",))
    assert "a gradient reaches y, and none is to: detach it" in told(mix, lambda x, y: x * y, both)[0]
    assert told(mix, lambda x, y: x * y, one) == ("", [])


def test_float64_may_be_left_open_and_is_remarked() -> None:
    cases = Cases(lambda: batches(1.0, -2.0), double=False)
    wrong, remarks = told(square, lambda x: (x * x).float(), cases)
    assert not wrong
    assert "It works in float32 alone, which is all that is asked here" in remarks[0]


def test_an_empty_input_is_asked_for_or_remarked() -> None:
    def by_rows(x: Tensor) -> Tensor:
        return torch.stack([v * v for v in x.reshape(-1)]).reshape(x.shape)

    def leaves_on_empty(x: Tensor) -> Tensor:
        return x * x if x.numel() else exit("no numbers")

    assert "square(tensor([])) raised RuntimeError" in told(square, by_rows)[0]
    lenient = Cases(lambda: [*batches(1.0, -2.0, empty=False), *batches(3.0, empty=False)])
    wrong, remarks = told(square, by_rows, lenient)
    assert not wrong
    assert len(remarks) == 1 and "An empty input is not for it" in remarks[0]
    assert "ended the program" in told(square, leaves_on_empty, lenient)[0]


def test_expected_values_are_there_before_an_attempt_runs() -> None:
    scale = [1.0]

    def scaled(x: Tensor) -> Tensor:
        return scale[0] * x

    def poison(x: Tensor) -> Tensor:
        scale[0] = 0.0
        return 0 * x

    assert "gave 0.0, and 1.0 is right" in told(scaled, poison, Cases(lambda: batches(1.0, 2.0)))[0]


def test_the_checks_own_fault_is_not_the_learners() -> None:
    def broken(attempt: Any) -> None:
        attempt(torch.ones(1))
        {}["nothing"]

    broken.__code__ = broken.__code__.replace(co_filename=torch.__file__)  # as if it stood in the package
    outcome = hold("square", square, [broken])
    assert "the check itself failed over what yours gave, which need not be your fault: KeyError" in outcome.wrong


def test_numbers_have_the_digits_that_tell_them_apart() -> None:
    with pytest.raises(Wrong, match=r"it gave 1.00001, and 1.0 is right"):
        equal_values(torch.tensor(1.000012), torch.tensor(1.0), "it", rtol=1e-9, atol=0.0)


# --------------------------------------------------------------------------------------------------- a GPU


def test_a_gpu_is_imitated() -> None:
    x, index = OnGpu.put(torch.tensor([1.0, -2.0, 3.0])), torch.tensor([0, 2])
    with OnGpu():
        assert x.device.type == "cuda" and x.is_cuda
        good = [x + 1, x * torch.tensor(2.0), x[x > 0], x[index], torch.zeros(3, device=x.device) + x, torch.zeros_like(x),
                x.new_zeros(2), torch.ones(2).to(x), torch.arange(3).to(x.device) + x, torch.cat([x, x]), x.cumsum(0)]  # fmt: skip
        assert all(map(OnGpu.has, good))
        assert not any(map(OnGpu.has, [x.cpu(), torch.tensor(x.tolist()), torch.zeros(3), torch.ones(1)]))
        assert float(x[0]) == 1.0 and x.max().item() == 3.0
        x[x < 0] = 0.0
    assert x.tolist() == [1.0, 0.0, 3.0]
    assert x.device.type == "cpu"


@pytest.mark.parametrize(
    "meets",
    [
        lambda x: x + torch.ones(3), lambda x: torch.cat([x, torch.ones(3)]), lambda x: x * torch.arange(3), lambda x: x.numpy(),
        lambda x: torch.where(x > 0, x, torch.zeros(3)), lambda x: torch.zeros(3).scatter_(0, torch.tensor([1]), x),
        lambda x: torch.zeros(3)[x.long()], lambda x: torch.ones(3).index_put_((x.long(),), x),
    ],
)  # fmt: skip
def test_two_devices_do_not_meet(meets: Callable[[Tensor], Tensor]) -> None:
    with OnGpu(), pytest.raises(WrongDevice):
        meets(OnGpu.put(torch.tensor([0.0, 1.0, 2.0])))
