"""The pieces of the algorithm that a learner builds or a variant replaces: one slot for each.

Every slot holds the package's own piece unless another is put there:

    Parts()                                        the algorithm as it is
    dataclasses.replace(Parts(), kl_loss=mine)     one piece replaced, as variants do it
    Parts.from_passport("passport.json")           every piece that a learner has written

A piece is called as the package's own is: the same arguments in the same order, ``generator`` among them where random
numbers are drawn. Modules come as classes, which are called with what the package's own class takes; a method of the
model comes as a plain function whose first argument is the model (or the cell, for ``gru_step``). Three may do more, if
they know how: a cell with ``scale_gates(factor)``, a scalar head with ``lower_far_bins(slope)``, and a norm that is
:class:`nets.Shifting`. ``Parts.idle()`` says which pieces of yours are not used beside the others, and why.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers import actor_critic, distributions, nets, optim, world_model
from dreamer_helpers import symlog as squash
from dreamer_helpers.actor_critic import Actor, Critic, ReturnNormalizer
from dreamer_helpers.config import Config
from dreamer_helpers.distributions import OneHot
from dreamer_helpers.errors import UserError
from dreamer_helpers.nets import ContinueHead, TwoHotHead
from dreamer_helpers.symlog import TwoHot
from dreamer_helpers.world_model import RSSM, BlockGRU, WorldModel

logger = logging.getLogger("dreamer_helpers")


@runtime_checkable
class ScalesGates(Protocol):
    """A cell that can spread its gates at the start."""

    def scale_gates(self, factor: float) -> None:
        """Multiply the initial weights of the gates by a factor."""


@runtime_checkable
class LowersFarBins(Protocol):
    """A head that can begin with lower logits for farther bins."""

    def lower_far_bins(self, slope: float) -> None:
        """Lower the initial logits by so much for each unit of symlog from 0."""


@dataclass(frozen=True)
class Parts:
    """A slot for each piece, with the package's own in it. Raises UserError for a piece that cannot be called."""

    # symlog.py
    symlog: Callable[[Tensor], Tensor] = squash.symlog
    symexp: Callable[[Tensor], Tensor] = squash.symexp
    symexp_bins: Callable[[int], Tensor] = squash.symexp_bins
    two_hot_encoding: Callable[[Tensor, Tensor], Tensor] = squash.two_hot_encoding
    two_hot_loss: Callable[[Tensor, Tensor, Tensor], Tensor] = squash.two_hot_loss
    two_hot_mean: Callable[[Tensor, Tensor], Tensor] = squash.two_hot_mean
    # distributions.py
    mix_uniform: Callable[[Tensor, float], Tensor] = distributions.mix_uniform
    sample_one_hot: Callable[..., Tensor] = distributions.sample_one_hot
    continuous_policy: Callable[..., Any] = distributions.BoundedNormal
    # nets.py
    norm: Callable[..., nn.Module] = nets.RMSNorm
    scalar_head: Callable[..., nn.Module] = nets.TwoHotHead
    continue_head: Callable[..., nn.Module] = nets.ContinueHead
    continue_loss: Callable[[Tensor, Tensor, float], Tensor] = nets.continue_loss
    # world_model.py; the first four are methods, written as functions of the cell or of the model
    gru_step: Callable[..., Tensor] = BlockGRU.forward
    dynamics_step: Callable[..., Tensor] = RSSM.dynamics_step
    observe: Callable[..., Any] = RSSM.observe
    imagine: Callable[..., Any] = RSSM.imagine
    cell: Callable[..., nn.Module] = world_model.BlockGRU
    encoder: Callable[..., nn.Module] = world_model.Encoder
    decoder: Callable[..., nn.Module] = world_model.Decoder
    image_output: Callable[[Tensor], Tensor] = torch.sigmoid
    kl_loss: Callable[..., Any] = world_model.kl_loss
    reward_loss: Callable[..., Tensor] = world_model.reward_loss
    total_loss: Callable[..., Tensor] = world_model.total_loss
    # actor_critic.py
    dream: Callable[..., Any] = actor_critic.dream
    compute_returns: Callable[..., Tensor] = actor_critic.compute_returns
    return_scale: Callable[..., Tensor] = actor_critic.return_scale  # called with floor 0: see FollowedScale
    return_normalizer: Callable[..., nn.Module] = actor_critic.ReturnNormalizer
    actor_loss: Callable[..., Tensor] = actor_critic.actor_loss
    critic_loss: Callable[..., Tensor] = actor_critic.critic_loss
    replay_critic_loss: Callable[..., Tensor] = actor_critic.replay_critic_loss
    imagination_losses: Callable[..., Any] = actor_critic.imagination_losses
    # optim.py
    optimizer: Callable[..., Any] = optim.laprop

    def __post_init__(self) -> None:
        for slot in dataclasses.fields(Parts):
            piece = getattr(self, slot.name)
            if not callable(piece):
                raise UserError(f"parts: {slot.name} must be a function or a class, not {piece!r}")
            if isinstance(piece, nn.Module) and slot.name in MODULES:
                raise UserError(f"parts: {slot.name} must be the class {type(piece).__name__}, not one made of it")

    def foreign(self) -> dict[str, str]:
        """The slots that hold another piece than the package's own, and the names of these."""
        slots = ((slot.name, getattr(self, slot.name), slot.default) for slot in dataclasses.fields(Parts))
        return {name: getattr(piece, "__qualname__", repr(piece)) for name, piece, own in slots if piece is not own}

    def idle(self) -> dict[str, str]:
        """The slots whose pieces are not the package's own and yet are not used, and why."""
        why = {}
        if self.cell is not BlockGRU:
            why["gru_step"] = "the cell is another one"
        if self.return_normalizer is not ReturnNormalizer:
            why["return_scale"] = "the normaliser is another one"
        if not _is_kind(self.scalar_head, TwoHotHead):
            names = ("symexp_bins", "two_hot_encoding", "two_hot_loss", "two_hot_mean")
            why |= dict.fromkeys(names, "the scalar head is another one")
        if not _is_kind(self.continue_head, ContinueHead):
            why["continue_loss"] = "the continue head is another one"
        if self.replay_critic_loss is not actor_critic.replay_critic_loss:
            note = "the replay critic loss is another one, which does not ask for it"
            why |= {name: note for name in ("compute_returns", "critic_loss") if not self._in_dreams()}
        return {slot: why[slot] for slot in self.foreign() if slot in why}

    def tell_idle(self, used: Parts) -> None:
        """Warn of each piece that is not used: beside the others, or because a variant took its slot in ``used``."""
        taken = {
            slot: "a variant takes its place"
            for slot in self.foreign()
            if getattr(self, slot) is not getattr(used, slot)
        }
        for slot, why in (used.idle() | taken).items():
            if slot in self.foreign():
                logger.warning("parts: %s is yours, but is not used: %s", slot, why)

    def _in_dreams(self) -> bool:
        return self.imagination_losses is actor_critic.imagination_losses

    # ----------------------------------------------------------------------------- what the agent is made of

    def make_world_model(self, config: Config, space: spaces.Dict, action_dim: int) -> WorldModel:
        """A world model of these parts, tuned as the configuration says."""
        kind = filled(WorldModel, dynamics_step=self.dynamics_step, observe=self.observe, imagine=self.imagine)
        cell = filled(BlockGRU, forward=self.gru_step) if self.cell is BlockGRU else self.cell
        model = kind(
            config, space, action_dim, norm=self.norm, cell=cell, latent=self._latent(), encoder=self.encoder,
            decoder=self.decoder, scalar_head=self._scalar_head(), continue_head=self._continue_head(),
            kl_loss=self.kl_loss, reward_loss=self.reward_loss, symlog=self.symlog, symexp=self.symexp,
            image_output=self.image_output,
        )  # fmt: skip
        if config.gate_init_scale != 1.0:
            tune(model.cell, ScalesGates, "scale_gates", config.gate_init_scale)
        lower_far_bins(config.bin_slope, model.reward)
        return model

    def make_actor(self, config: Config, features: int, discrete: bool, sizes: tuple[int, ...]) -> Actor:
        """An actor of these parts."""
        return Actor(
            config, features, discrete, sizes, norm=self.norm, continuous_policy=self.continuous_policy,
            categorical=self._latent(),
        )  # fmt: skip

    def make_critic(self, config: Config, features: int) -> Critic:
        """A critic of these parts, tuned as the configuration says."""
        critic = Critic(config, features, norm=self.norm, scalar_head=self._scalar_head())
        lower_far_bins(config.bin_slope, critic.head, critic.slow)
        return critic

    def make_normalizer(self, config: Config) -> nn.Module:
        """What follows the range of returns: a learner's scale is followed as the package's own is."""
        kind = self.return_normalizer
        if kind is ReturnNormalizer and self.return_scale is not actor_critic.return_scale:
            kind = partial(FollowedScale, return_scale=self.return_scale)
        return kind(config.return_low, config.return_high, config.return_rate, config.return_floor)

    def make_replay_critic_loss(self) -> Callable[..., Tensor]:
        """The replay critic loss; the package's own uses the returns and the critic loss of these parts."""
        if self.replay_critic_loss is not actor_critic.replay_critic_loss:
            return self.replay_critic_loss
        return partial(
            self.replay_critic_loss, compute_returns=self.compute_returns, critic_loss=self.critic_loss
        )  # fmt: skip

    def _latent(self) -> type[OneHot]:
        return filled(OneHot, mix=staticmethod(self.mix_uniform), draw=staticmethod(self.sample_one_hot))

    def _scalar_head(self) -> Callable[..., nn.Module]:
        loss = self.two_hot_loss
        if loss is squash.two_hot_loss and self.two_hot_encoding is not squash.two_hot_encoding:
            loss = partial(loss_with, self.two_hot_encoding)
        functions = TwoHot(self.symexp_bins, loss, self.two_hot_mean)
        known = _is_kind(self.scalar_head, TwoHotHead)
        return partial(self.scalar_head, two_hot=functions) if known and functions != TwoHot() else self.scalar_head

    def _continue_head(self) -> Callable[..., nn.Module]:
        if self.continue_loss is nets.continue_loss or not _is_kind(self.continue_head, ContinueHead):
            return self.continue_head
        return partial(self.continue_head, continue_loss=self.continue_loss)

    # ------------------------------------------------------------------------------- a learner's own parts

    @classmethod
    def from_passport(cls, path: str | Path | None = None) -> OwnParts:
        """The parts that a learner has written: each source in the passport is made anew and checked once more.

        What does not pass is left out, and the course's own stands in. The result says which is which:
        ``print(parts.report())``. Without ``path`` it is the learner's own passport, with what passed in this notebook.
        A file that is named is taken at its word where it bears no seals, so give it your own; what was imported, or
        sealed by somebody else, is left out until ``course.trust()``. Raises UserError if the file at ``path`` is no
        passport.
        """
        from dreamer_helpers.course import own_parts

        pieces, notes = {}, {}
        for name, (slot, piece, note) in own_parts.own_pieces(path).items():
            if piece is None:
                notes[name] = note
            else:
                pieces[slot], notes[slot] = piece, note
        return OwnParts(**pieces, notes=notes)


@dataclass(frozen=True)
class OwnParts(Parts):
    """:class:`Parts` from a passport, which say whose each is: ``notes`` by slot, or by exercise where it has none."""

    notes: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def report(self) -> str:
        """A line for each slot: *yours* or *the course's*, and what was left out and why."""
        slots = [f.name for f in dataclasses.fields(Parts)]
        lines = [f"{slot:<22}{self.notes.get(slot, OURS)}" for slot in slots]
        return "\n".join([*lines, *(f"{name:<22}{why}" for name, why in self.notes.items() if name not in slots)])


OURS = "the course's"


def loss_with(encoding: Callable[[Tensor, Tensor], Tensor], logits: Tensor, target: Tensor, bins: Tensor) -> Tensor:
    """``symlog.two_hot_loss`` with an encoding that a learner wrote: (..., n), (...), (n,) -> (...)."""
    return -(encoding(target.detach(), bins) * torch.log_softmax(logits, -1)).sum(-1)


MODULES = {"norm", "scalar_head", "continue_head", "cell", "encoder", "decoder", "return_normalizer"}
"""The slots that hold classes of modules."""


def _is_kind(piece: Any, kind: type) -> bool:
    return isinstance(piece, type) and issubclass(piece, kind)


def filled(base: type, **methods: Any) -> Any:
    """``base``, or a subclass of it with those of the methods that are not its own already."""
    other = {
        name: method if hasattr(method, "__get__") else as_method(method)
        for name, method in methods.items()
        if getattr(method, "__func__", method) is not getattr(base, name)
    }
    return type(base.__name__, (base,), {**other, "__module__": base.__module__}) if other else base


def as_method(piece: Callable[..., Any]) -> Callable[..., Any]:
    """A callable object as a function, which a class hands its objects to."""
    return lambda *arguments, **settings: piece(*arguments, **settings)


def tune(part: nn.Module, protocol: type, method: str, value: float) -> None:
    """Ask a part to tune itself; one that does not know how stays as it is, and a line says so."""
    if isinstance(part, protocol):
        getattr(part, method)(value)
    else:
        logger.warning("%s has no %s and begins as it is, without %s(%g)", type(part).__name__, method, method, value)


def lower_far_bins(slope: float, *heads: nn.Module) -> None:
    """Let heads begin with logits that fall by ``slope`` for each unit of symlog from 0."""
    for head in heads:
        if slope:
            tune(head, LowersFarBins, "lower_far_bins", slope)


class FollowedScale(nn.Module):
    """The running form of any ``return_scale(returns, low, high, floor)``, for one that a learner wrote.

    As averaging is linear, the difference of two averages is the average of the differences: with the package's own
    :func:`return_scale` this is :class:`ReturnNormalizer`.
    """

    def __init__(
        self, low: float = 5.0, high: float = 95.0, rate: float = 0.01, floor: float = 1.0,
        return_scale: Callable[..., Tensor] = actor_critic.return_scale,
    ):  # fmt: skip
        super().__init__()
        self.percent, self.rate, self.floor, self.return_scale = (low, high), rate, floor, return_scale
        self.register_buffer("range", torch.zeros(()))

    @torch.no_grad()
    def forward(self, returns: Tensor) -> Tensor:
        """Take in a batch of returns (any shape), then give the scale S (scalar)."""
        self.range.lerp_(self.return_scale(returns, *self.percent, 0.0), self.rate)
        return self.range.clamp(min=self.floor)
