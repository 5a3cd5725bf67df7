"""What train_step uses, and what learns from what.

* Which loss reaches which parameters, as a table.
* What test_golden.py compares with the official code is what train_step uses: spoil one of those functions,
  and the comparison fails and training goes another way; put a plain wrapper in its place, and every
  parameter stays the same to the last bit.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any

import pytest
import test_golden
import torch
from gymnasium import spaces
from torch import Tensor

from dreamer_helpers import actor_critic, distributions, nets, optim, symlog, variants, world_model
from dreamer_helpers import agent as agents
from dreamer_helpers import device as hardware
from dreamer_helpers.actor_critic import Critic, ReturnNormalizer
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.config import preset
from dreamer_helpers.distributions import BoundedNormal, DiscretePolicy, OneHot
from dreamer_helpers.optim import LaProp
from dreamer_helpers.parts import Parts
from dreamer_helpers.world_model import RSSM, BlockGRU, WorldModel
from helpers import GOLDEN_FILES, GoldenFolder, make_batch

OBSERVATION = spaces.Dict({
    "discrete": spaces.MultiDiscrete([3]),
    "image": spaces.Box(0, 255, (8, 8, 3), "uint8"),
    "vector": spaces.Box(-1, 1, (2,)),
})  # fmt: skip
ACTIONS = {"discrete": spaces.Discrete(3), "continuous": spaces.Box(-1, 1, (2,))}

# No free nats and no warm-up: both would hide a gradient at first.
TINY = preset(
    rnn_hidden_dim=16, hidden_dim=8, num_categoricals=2, num_categories=4, blocks=2, mlp_layers=1,
    prior_layers=1, cnn_depth=2, cnn_mults=(1,), cnn_kernel=3, num_bins=15, batch_size=2, seq_len=3,
    imagination_horizon=2, warmup=0, free_nats=0.0, learning_rate=1e-2,
)  # fmt: skip


def make_agent(kind: str = "discrete", parts: Parts | None = None, **settings: Any) -> DreamerV3:
    """The same tiny agent each time: an image, a vector and a discrete entry in, one kind of action out."""
    return DreamerV3(dataclasses.replace(TINY, **settings), OBSERVATION, ACTIONS[kind], parts)


# -------------------------------------------------------------------------------- which loss reaches what

MODULES = {
    "encoder": lambda agent: agent.world_model.encoder,
    "sequence model": lambda agent: agent.world_model.cell,
    "posterior": lambda agent: agent.world_model.posterior_net,
    "prior": lambda agent: agent.world_model.prior_net,
    "decoder": lambda agent: agent.world_model.decoder,
    "reward": lambda agent: agent.world_model.reward,
    "continue": lambda agent: agent.world_model.cont,
    "actor": lambda agent: agent.actor,
    "critic": lambda agent: agent.critic.head,
    "slow critic": lambda agent: agent.critic.slow,
}
STATE = {"encoder", "sequence model", "posterior"}  # what a latent state is made by

REACHES = {
    "image": STATE | {"decoder"},
    "vector": STATE | {"decoder"},
    "discrete": STATE | {"decoder"},
    "reward": STATE | {"reward"},
    "continue": STATE | {"continue"},
    "dyn": {"sequence model", "prior"},  # the posterior is the target and stays where it is
    "rep": STATE,  # the prior is the target
    "actor": {"actor"},
    "critic": {"critic"},  # imagination never changes the world model
    "replay_critic": STATE | {"critic"},  # replay does: latent states should tell values
}
"""What learns from each loss when every step begins an episode: nothing comes from the step before."""

REACHES_THROUGH_TIME = {**REACHES, "dyn": STATE | {"prior"}}
"""The same for sequences: the prior of step t rests on h_t, and that on the posterior of step t - 1."""


def reached(agent: DreamerV3, batch: dict[str, Tensor]) -> dict[str, set[str]]:
    """The modules in which each loss leaves a gradient that is not 0."""
    _, _, metrics = agent.loss(batch)
    table = {}
    for name, loss in metrics.items():
        if name.startswith("loss/"):
            agent.zero_grad()
            loss.backward(retain_graph=True)
            touched = {key for key, module in MODULES.items() if any(map(has_gradient, module(agent).parameters()))}
            table[name.removeprefix("loss/")] = touched
    return table


def has_gradient(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


@pytest.mark.parametrize("kind", ACTIONS)
@pytest.mark.parametrize("through_time", [False, True])
def test_which_loss_reaches_which_parameters(kind: str, through_time: bool) -> None:
    agent = make_agent(kind, value_init_scale=1.0)  # an output of zeros passes no gradient on
    batch = make_batch(TINY, OBSERVATION, ACTIONS[kind])
    batch["is_first"] = torch.full_like(batch["is_first"], not through_time)
    batch["is_last"] = torch.zeros_like(batch["is_last"])  # behind a last step the replay critic does not learn
    assert reached(agent, batch) == (REACHES_THROUGH_TIME if through_time else REACHES)


def test_backprop_through_the_dynamics_changes_the_actor_alone() -> None:
    agent = make_agent("continuous", value_init_scale=1.0, variants=("dynamics_backprop",))
    table = reached(agent, make_batch(TINY, OBSERVATION, ACTIONS["continuous"]))
    assert (table["actor"], table["critic"]) == ({"actor"}, {"critic"})


def test_backprop_through_the_dynamics_climbs_the_returns_of_the_learner() -> None:
    climbed = []

    def returns(rewards: Tensor, *others: Any, **settings: Any) -> Tensor:
        climbed.append(rewards.requires_grad)
        return actor_critic.compute_returns(rewards, *others, **settings)

    parts = dataclasses.replace(Parts(), compute_returns=returns)
    agent = make_agent("continuous", parts, value_init_scale=1.0, variants=("dynamics_backprop",))
    agent.loss(make_batch(TINY, OBSERVATION, ACTIONS["continuous"]))
    assert climbed == [False, True, False]  # of the critic's loss, then of the actor's, then on replay


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_parameter_learns(precision: str) -> None:
    agent = make_agent(value_init_scale=1.0)
    with hardware.precision(agent.device, precision):
        total, _, _ = agent.loss(make_batch(TINY, OBSERVATION, ACTIONS["discrete"]))
    total.backward()
    idle = [name for name, p in agent.named_parameters() if p.requires_grad and not has_gradient(p)]
    assert not idle
    optimized = {p for group in agent.optimizer.param_groups for p in group["params"]}
    assert optimized == {p for p in agent.parameters() if p.requires_grad}


def test_free_nats_stop_the_kl_gradient() -> None:
    agent = make_agent(free_nats=1000.0)
    table = reached(agent, make_batch(TINY, OBSERVATION, ACTIONS["discrete"]))
    assert table["dyn"] == table["rep"] == set()


# -------------------------------------------------------------------- what is compared is what is used

Spoil = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes another function out of a function."""


def tilted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with each of its numbers a little larger, the more so along the last axis."""
    return lambda *args, **options: tilt(function(*args, **options))


def tilt(x: Any) -> Any:
    if isinstance(x, Tensor) and x.is_floating_point():
        length = x.shape[-1] if x.ndim else 1
        return x * (1 + torch.arange(1, length + 1).reshape(x.shape[-1:]) / (4 * length))
    if isinstance(x, OneHot):
        return OneHot(tilt(x.logits), x.unimix)
    if isinstance(x, dict):
        return {key: tilt(value) for key, value in x.items()}
    if isinstance(x, tuple):
        parts = [tilt(part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    return x


def twice(function: Callable[..., Any]) -> Callable[..., Any]:
    """For functions that change something in place: do it two times."""
    return lambda *args: (function(*args), function(*args))[1]


def half_as_long(clip: Callable[..., None]) -> Callable[..., None]:
    """Clip gradients to half the length."""
    return lambda parameters, gradients, limit: clip(parameters, gradients, limit / 2)


def unchanged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Another function that does the same."""
    return lambda *args, **options: function(*args, **options)


USED: dict[str, list[tuple[Any, str]]] = {
    "symlog": [(symlog, "symlog"), (symlog, "symexp")],
    "bins": [(symlog, "symexp_bins")],
    "twohot": [(symlog, "two_hot_loss"), (symlog, "two_hot_mean")],
    "twohot_v1": [(variants.SymlogTwoHotHead, "loss"), (variants.SymlogTwoHotHead, "mean")],
    "onehot": [
        (OneHot, "probs"), (OneHot, "log_probs"), (OneHot, "log_prob"), (OneHot, "entropy"), (OneHot, "kl"),
        (OneHot, "mix"), (distributions, "straight_through"),
    ],
    "kl_balance": [(world_model, "kl_loss")],
    "linear": [(nets.Linear, "forward")],
    "blocklinear": [(nets.BlockLinear, "forward")],
    "rmsnorm": [(nets.RMSNorm, "forward")],
    "layernorm": [(variants.LayerNorm, "forward")],
    "rssm_step": [(BlockGRU, "forward"), (RSSM, "prior"), (RSSM, "posterior"), (RSSM, "distribution")],
    "rssm_observe": [(RSSM, "observe"), (RSSM, "dynamics_step"), (BlockGRU, "forward")],
    "rssm_imagine": [(RSSM, "imagine")],
    "lambda_return": [(actor_critic, "compute_returns")],
    "retnorm": [(ReturnNormalizer, "forward")],
    "bounded_normal": [(BoundedNormal, "log_prob"), (BoundedNormal, "entropy")],
    "heads": [
        (nets.Head, "forward"), (nets.TwoHotHead, "loss"), (nets.TwoHotHead, "mean"),
        (nets.ContinueHead, "loss"), (nets.ContinueHead, "mean"),
    ],
    "imag_loss_disc": [
        (DiscretePolicy, "log_prob"), (DiscretePolicy, "entropy"), (actor_critic, "imagination_losses"),
        (actor_critic, "actor_loss"), (actor_critic, "critic_loss"),
    ],
    "imag_loss_cont": [
        (actor_critic, "imagination_losses"), (actor_critic, "actor_loss"), (actor_critic, "critic_loss"),
    ],
    "repl_loss": [(actor_critic, "replay_critic_loss")],
    "optimizer": [(LaProp, "step"), (optim, "clip_adaptively_")],
    "slow_ema": [(Critic, "update_slow")],
    "encoder": [(world_model.Encoder, "forward"), (nets.ConvEncoder, "forward")],
    "decoder": [
        (world_model.Decoder, "forward"), (nets.ConvDecoder, "forward"),
        (WorldModel, "reconstruction_losses"),
    ],
    "replay_semantics": [(agents, "split_context")],  # annotate and Ratio stand outside of train_step
}  # fmt: skip
"""By golden file, the functions that it holds to the official code, and that train_step should be using."""

CASES = [pytest.param(file, *case, id=f"{file}-{case[1]}") for file, cases in USED.items() for case in cases]
SPOILED_BY: dict[str, Spoil] = {"step": twice, "update_slow": twice, "clip_adaptively_": half_as_long}
"""Functions that change something in place; all others are tilted."""
SETUP = {
    "bounded_normal": ("continuous", ()), "imag_loss_cont": ("continuous", ()),
    "layernorm": ("discrete", ("layer_norm",)), "twohot_v1": ("discrete", ("symlog_two_hot",)),
}  # fmt: skip
"""Kind of action and variants with which a file's functions are used; the rest need nothing special."""
PLAIN = ("discrete", ())


def replace(patch: pytest.MonkeyPatch, owner: Any, name: str, spoil: Spoil) -> Parts:
    """Put ``spoil(function)`` wherever the package keeps a function: its owner, importing modules, Parts."""
    original = inspect.getattr_static(owner, name)
    if isinstance(original, cached_property):
        other: Any = cached_property(spoil(original.func))
        other.__set_name__(owner, name)
    else:
        original = getattr(original, "__func__", original)  # of a staticmethod, the function
        other = spoil(original)
    patch.setattr(owner, name, staticmethod(other) if name in ("mix", "draw") else other)
    for module in package_modules():
        for key in [key for key, value in vars(module).items() if value is original]:
            patch.setattr(module, key, other)
    return Parts(**{field.name: other for field in dataclasses.fields(Parts) if field.default is original})


def package_modules() -> list[ModuleType]:
    """The package, and the module that compares it with the official code."""
    return [
        test_golden,
        *(module for name, module in sys.modules.items() if name.startswith("dreamer_helpers.")),
    ]


def after_training(kind: str, names: tuple[str, ...], parts: Parts | None = None) -> dict[str, Tensor]:
    """All that three updates leave in the agent, from the same start on the same batches."""
    agent = make_agent(kind, parts, variants=names)
    for seed in range(3):
        agent.train_step(make_batch(TINY, OBSERVATION, ACTIONS[kind], seed))
    return {name: value.clone() for name, value in agent.state_dict().items()}


untouched = functools.cache(after_training)


def largest_change(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


def test_every_golden_file_is_listed() -> None:
    assert set(USED) == set(GOLDEN_FILES)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "owner", "name"), CASES)
def test_train_step_uses_what_is_compared(file: str, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = SETUP.get(file, PLAIN)
    expected = untouched(*setup)
    with monkeypatch.context() as patch:
        parts = replace(patch, owner, name, SPOILED_BY.get(name, tilted))
        assert largest_change(after_training(*setup, parts), expected) > 1e-4
    with monkeypatch.context() as patch:
        parts = replace(patch, owner, name, unchanged)
        assert largest_change(after_training(*setup, parts), expected) == 0


@pytest.mark.parametrize(("file", "owner", "name"), CASES)
def test_the_comparison_notices(
    file: str, owner: Any, name: str, golden: GoldenFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(monkeypatch, owner, name, SPOILED_BY.get(name, tilted))
    folder = GoldenFolder(golden.path)  # one of its own, so that these do not count as compared
    opened = folder.open(file)
    with pytest.raises(AssertionError):
        test_golden.CHECKS[file](opened, folder)


@pytest.mark.parametrize(("owner", "name"), [(WorldModel, "decode"), (OneHot, "mode"), (DreamerV3, "act")])
def test_what_is_not_used_changes_nothing(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = untouched(*PLAIN)
    parts = replace(monkeypatch, owner, name, tilted)
    assert largest_change(after_training(*PLAIN, parts), expected) == 0
