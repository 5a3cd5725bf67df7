"""Lesson 09: other right answers to its exercises, and planted mistakes."""

from __future__ import annotations

import torch

import attempts
from dreamer_helpers.agent import split_context
from dreamer_helpers.world_model import previous_actions

RIGHT: attempts.Right = {
    "previous_actions": [
        """
        def previous_actions(action, is_first):
            before = torch.roll(action, 1, dims=1)
            before[:, 0] = 0
            before[is_first] = 0
            return before
    """,
        """
        def previous_actions(action, is_first):
            steps = []
            for t in range(action.shape[1]):
                earlier = action[:, t - 1] if t > 0 else torch.zeros_like(action[:, 0])
                steps.append(torch.where(is_first[:, t, None], torch.zeros_like(earlier), earlier))
            return torch.stack(steps, 1)
    """,
        """
        def previous_actions(action, is_first):
            before = nn.functional.pad(action, (0, 0, 1, 0))[:, :-1]
            return before * (~is_first).unsqueeze(-1)
    """,
    ],
    "total_loss": [
        """
        def total_loss(losses, scales):
            total = 0.0
            for name, loss in losses.items():
                if name in scales:
                    total = total + scales[name] * loss.mean()
                else:
                    total = total + loss.mean()
            return total
    """,
        """
        def total_loss(losses, scales):
            return torch.stack([loss.mean() * scales.get(name, 1) for name, loss in losses.items()]).sum()
    """,
        """
        def total_loss(losses, scales):
            means = {name: loss.sum() / loss.numel() for name, loss in losses.items()}
            return sum({**{name: 1.0 for name in losses}, **scales}[name] * mean for name, mean in means.items())
    """,
    ],
}

SHIFTED = "before = torch.cat([torch.zeros_like(action[:, :1]), action[:, :-1]], 1)"

MISTAKES: attempts.Mistakes = {
    "previous_actions": {
        "return action": "is .1.0, 2.0, 3.0, 4.0., and .0.0, 1.0, 2.0, 3.0. is right: what led to a step",
        "return torch.cat([action[:, 1:], torch.zeros_like(action[:, :1])], 1)": "is .2.0, 3.0, 4.0, 0.0., and",
        "return torch.roll(action, 1, 1).masked_fill(is_first[..., None], 0.0)": "is .3.0, 1.0, 2.0., and .0.0, 1.0, 2.0. is right: before the first step",
        f"{SHIFTED}; return before": "is .0.0, 1.0, 2.0, 3.0, 4.0., and .0.0, 1.0, 2.0, 0.0, 4.0. is right: no action leads into",
        f"action = action.masked_fill(is_first[..., None], 0.0); {SHIFTED}; return before": "is .0.0, 0.0, 2.0, 3.0., and",
        f"{SHIFTED}; return before.masked_fill(is_first.any(0)[:, None], 0.0)": "is right",
        f"{SHIFTED}; return before.masked_fill(~is_first[..., None], 0.0)": "is .0.0, 0.0, 0.0, 0.0., and",
        "return action[:, :-1] * ~is_first[:, 1:, None]": r"has shape (1, 3, 1), not (1, 4, 1)",
        "return torch.cat([torch.zeros_like(action[:1]), action[:-1]], 0)": "is .0.0, 0.0, 0.0, 0.0., and .*sequences along axis 0",
        "action[:, 1:] = action[:, :-1].clone(); action[:, 0] = 0; action[is_first] = 0; return action": "changed its input",
        f"{SHIFTED}; before = before * ~is_first[..., None]; return before.float()": "is of type torch.float32, not torch.float64",
        "before = torch.zeros(action.shape, dtype=action.dtype); before[:, 1:] = action[:, :-1]; "
        "return before * ~is_first[..., None]": "on a GPU, previous_actions",
        f"{SHIFTED}; before * ~is_first[..., None]": "gave NoneType, not a tensor|None",
    },
    "total_loss": {
        "return sum(loss.mean() for loss in losses.values())": "gave 8.0, and 2.6 is right: the mean of rep counts a tenth",
        "return sum(scales[name] * loss.mean() for name, loss in losses.items())": "KeyError: 'dyn'",
        "return sum((scales.get(name) or 1.0) * loss.mean() for name, loss in losses.items())": "gave 8.0, and 2.0 is right: a scale of 0",
        "return sum(scales.get(name, 0.0) * loss.mean() for name, loss in losses.items())": r"gave 0.0, and 2.0 is right",
        "return sum(scale * losses[name].mean() for name, scale in scales.items())": "int|KeyError|is right",
        "return sum(scales.get(name, 1.0) * loss for name, loss in losses.items())": "has shape (2,), not ()",
        "return sum(scales.get(name, 1.0) * loss.sum() for name, loss in losses.items())": "gave 4.0, and 2.0 is right",
        "return sum(scales.get(name, 1.0) * loss.mean() for name, loss in losses.items()) / len(losses)": "gave 4.0, and 8.0 is right",
        "return torch.cat([scales.get(n, 1.0) * x.reshape(-1) for n, x in losses.items()]).mean() * len(losses)": "averaged over all its entries",
        "return sum(scales.get(name, 1.0) * loss.mean().item() for name, loss in losses.items())": "gave float, not a tensor",
        "return torch.tensor(sum(scales.get(n, 1.0) * x.mean().item() for n, x in losses.items()))": "no gradient flows back",
        "return sum(scales.get(n, 1.0) * x.mean() for n, x in losses.items()).detach()": "no gradient flows back",
        "return sum(scales.get(n, 1.0) * (x if n == 'dyn' else x.detach()).mean() for n, x in losses.items())": "no gradient flows back to losses",
        "for name in losses: losses[name] = losses[name].mean() * scales.get(name, 1.0)\nreturn sum(losses.values())": "changed its input",
        "scales.setdefault('dyn', 1.0); return sum(scales.get(n, 1.0) * x.mean() for n, x in losses.items())": "changed its input",
        "return torch.zeros(()) + sum(scales.get(n, 1.0) * x.float().mean() for n, x in losses.items())": "is of type torch.float32|float64",
    },
}


@attempts.right_answers(RIGHT)
def test_another_right_answer_passes(name: str, source: str) -> None:
    attempts.assert_right(name, source)


@attempts.wrong_answers(MISTAKES)
def test_a_planted_mistake_is_named(name: str, body: str, words: str) -> None:
    attempts.assert_named(name, body, words)


def test_what_led_to_each_step() -> None:
    """The table at the top of world_model.py, and what training makes of a batch, with the zeros that the model adds."""
    action = torch.tensor([10.0, 11.0, 12.0, 20.0, 21.0])[None, :, None]
    is_first = torch.tensor([[True, False, False, True, False]])
    assert previous_actions(action, is_first).flatten().tolist() == [0.0, 10.0, 11.0, 0.0, 20.0]
    batch = {"action": torch.randn(3, 7, 2), "is_first": torch.rand(3, 7) < 0.4}
    batch |= {"deter": torch.zeros(3, 7, 4), "stoch": torch.zeros(3, 7, 2)}
    _, steps = split_context(batch, classes=4)
    shifted = steps["prev_action"] * ~steps["is_first"][..., None]
    assert torch.equal(shifted, previous_actions(batch["action"], batch["is_first"])[:, 1:])
