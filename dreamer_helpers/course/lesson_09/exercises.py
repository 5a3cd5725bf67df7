"""The exercises of lesson 09: which action led to a step, and the one number that is lowered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dreamer_helpers.course.checking import Call, Cases, Wrong, apart, call, is_tensor_like, show
from dreamer_helpers.course.exercises import Exercise, register
from dreamer_helpers.world_model import Losses, previous_actions, total_loss

Function = Callable[..., Tensor]


# ---------------------------------------------------------------------------------------------- the action before


def _numbered(firsts: tuple[int, ...], steps: int) -> tuple[Tensor, Tensor]:
    """Actions 1, 2, 3, ... of one sequence (1, T, 1), and where episodes begin (1, T)."""
    is_first = torch.zeros(1, steps, dtype=torch.bool)
    is_first[0, list(firsts)] = True
    return torch.arange(1.0, steps + 1)[None, :, None], is_first


def _in_words(f: Function, firsts: tuple[int, ...], steps: int, why: str) -> None:
    action, is_first = _numbered(firsts, steps)
    wanted = previous_actions(action, is_first)
    got = f(action.clone(), is_first.clone())
    what = f"for the actions {show(action.flatten())} and episodes that begin at the steps {list(firsts)} the result"
    is_tensor_like(got, wanted, what)
    if not torch.equal(got, wanted):
        raise Wrong(f"{what} is {show(got.flatten())}, and {show(wanted.flatten())} is right: {why}")


def _one_step_later(f: Function) -> None:
    why = "what led to a step is the action of the step before it; steps stand along axis 1, sequences along axis 0"
    _in_words(f, (0,), 4, why)


def _sequence_in_the_midst(f: Function) -> None:
    _in_words(f, (), 3, "before the first step of a sequence no action is known, also where no episode begins")


def _new_episodes(f: Function) -> None:
    why = "no action leads into a new episode; what was chosen at the last step before it is never carried out"
    _in_words(f, (0, 3), 5, why)
    _in_words(f, (2, 3), 6, why)


def _sequences() -> list[Call]:
    """Rows with beginnings of their own, and whatever is 1."""
    shapes = [(3, 6, 2), (2, 5, 4), (1, 1, 3), (4, 1, 1)]
    calls = [call(*_numbered((0, 2), 4)), *(call(torch.randn(shape), torch.rand(shape[:2]) < 0.4) for shape in shapes)]
    return [*calls, replace(calls[1], strided=True, slopes=False)]


# ---------------------------------------------------------------------------------------------- the weighted sum


def _adds_up(f: Function, losses: Losses, scales: dict[str, float], why: str) -> None:
    """The sum, in words; neither dictionary may be changed."""
    wanted = total_loss(losses, scales)
    given, factors = {name: loss.clone() for name, loss in losses.items()}, dict(scales)
    got, what = f(given, factors), f"total_loss({_shown(losses)}, {scales})"
    is_tensor_like(got, wanted, what)
    if not torch.isclose(got, wanted, rtol=1e-5):
        one, other = apart(got.item(), wanted.item())
        raise Wrong(f"{what} gave {one}, and {other} is right: {why}")
    same = given.keys() == losses.keys() and all(torch.equal(given[name], losses[name]) for name in losses)
    if not same or factors != scales:
        raise Wrong(f"{what} changed its input: leave both dictionaries as they are")


def _shown(losses: Losses) -> str:
    return "{" + ", ".join(f"{name!r}: {show(loss)}" for name, loss in losses.items()) + "}"


PAIR = {"dyn": torch.tensor([1.0, 3.0]), "rep": torch.tensor([4.0, 8.0])}


def _means(f: Function) -> None:
    _adds_up(f, {"dyn": PAIR["dyn"]}, {}, "the mean of the only loss")
    _adds_up(f, PAIR, {}, "the sum of the means; a loss without a scale counts once")
    ranks = {"a": torch.tensor(0.5), "b": torch.tensor([[1.0, 2.0, 3.0]]), "c": torch.tensor([10.0, 20.0])}
    _adds_up(f, ranks, {}, "losses differ in shape; each is averaged over all its entries before anything is added")


def _scales(f: Function) -> None:
    _adds_up(f, PAIR, {"rep": 0.1}, "the mean of rep counts a tenth, that of dyn once")
    _adds_up(f, PAIR, {"rep": 0.0}, "a scale of 0 switches a loss off")
    _adds_up(f, PAIR, {"dyn": 2, "rep": 0.5}, "each mean times its own scale")
    _adds_up(f, PAIR, {"replay_critic": 0.3}, "a scale for a loss that is not there changes nothing")
    wide = {"image": torch.tensor([3e4, 5e4]), "reward": torch.tensor([0.1, 0.3]), "actor": torch.tensor([-2e-3])}
    _adds_up(f, wide, {"image": 1e-4}, "each mean times its own scale, be it large, small or negative")


def _sums() -> list[Call]:
    """The same for gradients, for float64, and as if on a GPU; losses of the shapes that they have in the agent."""
    shapes = {"dyn": (2, 3), "rep": (2, 3), "actor": (5, 4), "replay_critic": (2, 1)}
    losses = {name: torch.rand(shape) for name, shape in shapes.items()}
    words = (
        "total_loss({dyn (2, 3), rep (2, 3), actor (5, 4), replay_critic (2, 1)}, {'rep': 0.1, 'replay_critic': 0.3})"
    )
    return [call(PAIR, {"rep": 0.1}), call(losses, {"rep": 0.1, "replay_critic": 0.3}, words=words)]


register(
    Exercise(
        "previous_actions", "09", previous_actions,
        (_one_step_later, _sequence_in_the_midst, _new_episodes, Cases(_sequences, gradient=())),
        (
            "Write five steps on paper, an episode that ends at step 2 and one that begins at step 3. Draw an arrow "
            "from each action to the observation that it led to. Which steps does no arrow reach?",
            "Everything moves one step to the right in time, which is axis 1. The last action falls out; what comes in "
            "at the left? `torch.cat` joins pieces; `torch.zeros_like` makes zeros like a given tensor.",
            "Then put zeros where an episode begins: `before.masked_fill(is_first[..., None], 0.0)`. The mask is that "
            "of the step which receives the action, not of the step which chose it.",
        ),
        minutes=8, slot="",
    ),
    Exercise(
        "total_loss", "09", total_loss, (_means, _scales, Cases(_sums)),
        (
            "Go through `losses.items()`. What becomes of a loss of shape (16, 16), before it meets its scale?",
            "`scales.get(name, 1.0)` is the scale, or 1 where there is none. A scale of 0 is a scale too.",
            "`sum(scale * loss.mean() for ...)` over all losses: a tensor, because each mean is one.",
        ),
        minutes=4, slot="total_loss",
    ),
)  # fmt: skip
