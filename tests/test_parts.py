"""The slots: each is used by the agent, a learner's pieces fill them, and what they cannot do is said."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import logging
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.testing import assert_close

from dreamer_helpers import nets, train, world_model
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.course import exercises
from dreamer_helpers.errors import UserError
from dreamer_helpers.parts import OURS, Parts
from dreamer_helpers.world_model import RSSM
from helpers import TINY, Bare, make_batch

OBSERVATION = spaces.Dict({"image": spaces.Box(0, 255, (8, 8, 3), "uint8"), "vector": spaces.Box(-1, 1, (3,))})
ACTIONS = {"continuous_policy": spaces.Box(-1, 1, (2,))}
SLOTS = [slot.name for slot in dataclasses.fields(Parts)]
ACTING = {"symexp", "percentile_normalize"}  # not needed to learn


def make_agent(parts: Parts | None = None, actions: spaces.Space | None = None, **settings: Any) -> DreamerV3:
    """The same tiny agent each time."""
    return DreamerV3(dataclasses.replace(TINY, **settings), OBSERVATION, actions or spaces.Discrete(3), parts)


def watched(piece: Any, calls: list[int]) -> Any:
    """The same piece, or a class of its own that does the same, which leaves a note whenever it is used."""
    if inspect.isclass(piece):
        return type("Mine", (piece,), {"__init__": watched(piece.__init__, calls)})

    def mine(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        return piece(*arguments, **settings)

    return mine


def live(agent: DreamerV3, actions: spaces.Space) -> dict[str, Tensor]:
    """Learn twice, act, and look at what the model decodes; all parameters after that."""
    batch = make_batch(agent.config, agent.observation_space, actions)
    for _ in range(2):
        agent.train_step(batch)
    obs = {key: np.stack([space.sample()]) for key, space in agent.observation_space.items()}
    agent.act({**obs, "is_first": np.array([True])}, None)
    agent.world_model.decode(
        type(agent.world_model.initial(1))(*(part[:, None] for part in agent.world_model.initial(1)))
    )
    return agent.state_dict()


@pytest.mark.parametrize("slot", SLOTS)
def test_the_agent_uses_what_is_in_the_slot(slot: str) -> None:
    """A piece that does the same is used, and leaves every parameter as it would be."""
    calls: list[int] = []
    actions = ACTIONS.get(slot, spaces.Discrete(3))
    parts = dataclasses.replace(Parts(), **{slot: watched(getattr(Parts(), slot), calls)})
    agent = make_agent(parts, actions)
    after = live(agent, actions)
    assert calls
    assert list(agent.foreign) == [slot]
    own = live(make_agent(actions=actions), actions)
    renamed = {"normalizer.low", "normalizer.high", "normalizer.range"} if slot == "return_scale" else set()
    assert set(after) ^ set(own) <= renamed
    for name in set(after) & set(own) - renamed:
        assert_close(after[name], own[name], rtol=1e-5, atol=1e-6)


def test_the_package_alone_is_not_foreign() -> None:
    assert Parts().foreign() == {}
    assert make_agent(variants=("layer_norm",)).foreign == {}  # a file says the variants by their names


def test_a_part_that_cannot_be_tuned_is_used_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dreamer_helpers"):
        agent = make_agent(Parts(cell=Bare), gate_init_scale=8.0, bin_slope=0.5, variants=("mse",))
    assert [record.getMessage().split(" has no ")[0] for record in caplog.records] == [
        "Bare",
        "MSEHead",
        "MSEHead",
        "MSEHead",
    ]
    agent.train_step(make_batch(agent.config, agent.observation_space, spaces.Discrete(3)))
    caplog.clear()
    with caplog.at_level(logging.WARNING, "dreamer_helpers"):
        make_agent(Parts(cell=Bare), gate_init_scale=1.0)
    assert not [record for record in caplog.records if "Bare" in record.getMessage()], "nothing was asked of it"


def test_a_piece_that_is_not_used_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def mine(*arguments: Any) -> Tensor:
        return torch.zeros(())

    cases = {
        "gru_step": (dict(cell=Bare), ()), "return_scale": (dict(return_normalizer=lambda *_: nn.Identity()), ()),
        "two_hot_mean": ({}, ("mse",)), "kl_loss": ({}, ("single_kl",)),
        "continue_loss": (dict(continue_head=lambda *a, **k: nets.Head(a[0], 1, 4, 1)), ()),
    }  # fmt: skip
    for slot, (others, names) in cases.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING, "dreamer_helpers"):
            make_agent(Parts(**others, **{slot: mine}), gate_init_scale=1.0, bin_slope=0.0, variants=names)
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 1 and told[0].startswith(f"parts: {slot} is yours, but is not used: "), told
    caplog.clear()
    with caplog.at_level(logging.WARNING, "dreamer_helpers"):
        make_agent(Parts(kl_loss=world_model.kl_loss, return_scale=mine))
    assert not caplog.records


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Parts(kl_loss=None), "kl_loss must be a function or a class, not None"),
        (lambda: Parts(cell=nn.GRUCell(2, 3)), "cell must be the class GRUCell, not one made of it"),
        (lambda: make_agent({"cell": Bare}), r"parts must be Parts\(...\)"),
        (lambda: make_agent(Parts), r"parts must be Parts\(...\)"),
    ],
)
def test_what_cannot_be_a_part_is_one_line(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()


def test_a_method_may_be_any_callable() -> None:
    calls: list[int] = []
    agent = make_agent(Parts(observe=functools.partial(watched(RSSM.observe, calls))))
    agent.train_step(make_batch(agent.config, agent.observation_space, spaces.Discrete(3)))
    assert calls


def test_a_cell_that_knows_how_is_tuned() -> None:
    class Tunable(Bare):
        def scale_gates(self, factor: float) -> None:
            self.factor = factor

    assert make_agent(Parts(cell=Tunable), gate_init_scale=8.0).world_model.cell.factor == 8.0


# ------------------------------------------------------------------------------------------------ a passport

INDEPENDENT = {
    "symlog": """
        def symlog(x):
            return torch.where(x < 0, -torch.log1p(-x.clamp(max=0)), torch.log1p(x.clamp(min=0)))
    """,
    "symexp": """
        def symexp(x):
            return torch.where(x < 0, -torch.expm1(-x.clamp(max=0)), torch.expm1(x.clamp(min=0)))
    """,
    "symlog_slope": """
        def symlog_slope(x):
            return (1 + x.abs()).reciprocal()
    """,
    "learned_worth": """
        def learned_worth(chance, prize):
            return prize.sign() * torch.expm1(chance * torch.log1p(prize.abs()))
    """,
    "symexp_bins": """
        def symexp_bins(n=255, limit=20.0):
            step, odd = 2 * limit / (n - 1), n % 2
            upper = torch.expm1((torch.arange(n // 2 + odd) + 0.5 * (1 - odd)) * step)
            return torch.cat([-upper.flip(0)[: n // 2], upper])
    """,
    "two_hot_encoding": """
        def two_hot_encoding(x, bins):
            x = x.clamp(bins[0], bins[-1])[..., None]
            left, right = bins[:-1], bins[1:]
            inside = (x >= left) & ((x < right) | ((right == bins[-1]) & (x == right)))
            share = torch.where(inside, (x - left) / (right - left), 0.0)
            zero = torch.zeros_like(x)
            return torch.cat([torch.where(inside, 1 - share, 0.0), zero], -1) + torch.cat([zero, share], -1) + 0 * x
    """,
    "two_hot_loss": """
        def two_hot_loss(logits, target, bins):
            encoding = two_hot_encoding(target.detach(), bins)
            return torch.logsumexp(logits, -1) - (encoding * logits).sum(-1)
    """,
    "two_hot_mean": """
        def two_hot_mean(logits, bins):
            terms = (torch.softmax(logits, -1) * bins)[..., bins.abs().argsort()]  # mirrored bins side by side
            odd = len(bins) % 2
            return terms[..., :odd].sum(-1) + terms[..., odd:].unflatten(-1, (-1, 2)).sum(-1).sum(-1)
    """,
    "previous_actions": """
        def previous_actions(action, is_first):
            before = torch.roll(action, 1, dims=1)
            begins = is_first.clone()
            begins[:, 0] = True
            return torch.where(begins.unsqueeze(-1), torch.zeros_like(before), before)
    """,
    "total_loss": """
        def total_loss(losses, scales):
            total = 0.0
            for name in losses:
                total = total + losses[name].mean() * scales.get(name, 1)
            return total
    """,
}
"""Every exercise that there is, written in another way than the package writes it."""


def write_passport(folder: Path, **sources: str) -> Path:
    """A passport as a learner's notebooks leave it."""
    path = folder / "passport.json"
    content = {
        "format": "dreamer-helpers passport",
        "version": 1,
        "sources": {k: textwrap.dedent(v).strip() + "\n" for k, v in sources.items()},
    }
    path.write_text(json.dumps(content))
    return path


def test_every_exercise_fills_a_slot() -> None:
    exercises.load_lessons()
    filled = {name: entry.slot for name, entry in exercises.REGISTRY.items() if entry.slot}
    assert set(filled.values()) <= set(SLOTS)
    assert set(INDEPENDENT) == set(exercises.REGISTRY), "an exercise lacks an independent solution here"


def test_parts_from_a_passport_say_whose_they_are(tmp_path: Path) -> None:
    sources = {**INDEPENDENT, "symexp": "def symexp(x):\n    return x", "later": "def later(): ..."}
    parts = Parts.from_passport(write_passport(tmp_path, **sources))
    slotless = {name for name in INDEPENDENT if not exercises.find(name).slot}
    assert "symlog_slope" in slotless
    assert set(parts.foreign()) == set(INDEPENDENT) - {"symexp"} - slotless
    rows = dict(line.split(None, 1) for line in parts.report().splitlines())
    assert rows["symlog"] == "yours, from lesson 01"
    assert rows["cell"] == OURS
    assert rows["symexp"].startswith("left out: it does not pass any more. symexp(")
    assert rows["later"] == "left out: this course has no such exercise"
    assert all("no place in the agent" in rows[name] for name in slotless)
    assert set(rows) == {*SLOTS, *slotless, "later"}


def test_what_is_no_passport_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "passport.json").write_text("{}")
    with pytest.raises(UserError, match="no passport of this course"):
        Parts.from_passport(tmp_path / "passport.json")


@pytest.mark.parametrize("waiting", ["imported", "sealed"])
def test_a_part_that_came_from_elsewhere_is_not_run(waiting: str, tmp_path: Path) -> None:
    """Also if somebody names the file: it was imported, or bears the seal of somebody else."""
    path, trace = write_passport(tmp_path), tmp_path / "trace"
    source = f"def symlog(x):\n    open({str(trace)!r}, 'w').close()\n    return x\n"
    added = {"imported": {"symlog": source}} if waiting == "imported" else {"sources": {"symlog": source}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **added, "seals": {"symlog": "0" * 64}}))
    parts = Parts.from_passport(path)
    assert parts.foreign() == {} and not trace.exists()
    assert "symlog                left out: it came from elsewhere; course.trust() shows it" in parts.report()


@pytest.mark.slow
def test_an_agent_of_a_learners_parts_learns_like_the_packages_own(tmp_path: Path) -> None:
    """The first 60 updates on CartPole, before rounding has grown: the same losses."""
    parts = Parts.from_passport(write_passport(tmp_path, **INDEPENDENT))
    runs = [
        train.train(TINY, "CartPole-v1", 320, parts=each, log_every=80, progress_bar=False) for each in (parts, None)
    ]
    for mine, own in zip(*(run.log for run in runs), strict=True):
        assert mine["updates"] == own["updates"]
        for key in own:
            if key.startswith("loss/"):
                assert mine[key] == pytest.approx(own[key], rel=0.05, abs=0.02), (key, own["steps"])
    assert runs[0].agent.foreign
