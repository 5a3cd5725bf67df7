"""Speed that is no part of the algorithm: the same numbers in less time. Twins of readable forms, and tested to be.

    accelerate(agent)

swaps the twins in for exactly the package's own classes and functions, with the same parameters: an object keeps its
identity and gets a subclass that computes the same otherwise. What is not in ``TWINS``, as a learner's part, runs as
it is. ``tests/test_twins.py`` is the guard. Nothing here needs to be read to understand DreamerV3.

What each twin saves of a gradient step is measured by ``tests/benchmarks/twins.py``, and stands in the README there. S1
and S2 are the steps of ``tests/benchmarks/step.py``.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from dreamer_helpers import actor_critic, distributions, nets, symlog, variants, world_model
from dreamer_helpers import device as hardware
from dreamer_helpers.agent import Batch, DreamerV3, split_context
from dreamer_helpers.errors import UserError, did_you_mean
from dreamer_helpers.world_model import State

SPEEDS = ("readable", "fast", "compile", "graph")


def accelerate(agent: DreamerV3, speed: str = "fast") -> DreamerV3:
    """Swap in the twins; returns the agent. ``speed`` is one of :data:`SPEEDS`.

    ``readable`` leaves everything as it is, ``fast`` swaps in the twins, ``compile`` compiles the twins' losses with
    torch.compile, and ``graph`` records the whole step as a CUDA graph, which takes a CUDA device: elsewhere a warning
    says so, and the step is ``fast``. Raises UserError for another word.
    """
    if speed not in SPEEDS:
        raise UserError(f"no speed {speed!r}{did_you_mean(speed, SPEEDS)}; there are {', '.join(SPEEDS)}")
    if speed == "readable":
        return agent
    if speed == "graph" and agent.device.type != "cuda":
        warnings.warn(f"speed 'graph' needs a CUDA device, not {agent.device.type}; going on with 'fast'", stacklevel=2)
        speed = "fast"
    swap(agent)
    pair = agent.parts.dream, agent.parts.imagination_losses
    own = actor_critic.dream, actor_critic.imagination_losses
    if pair == own or (agent.actor.discrete and pair == (variants.differentiable_dream, variants.backprop_losses)):
        # with discrete actions the variant, too, is the package's own
        agent.parts = dataclasses.replace(agent.parts, dream=dream, imagination_losses=imagination_losses)
    if isinstance(agent, FastDreamerV3):
        agent.prepare(speed)
    elif speed != "fast":
        name = type(agent).__name__
        warnings.warn(f"speed {speed!r} is for the package's own agent; {name} goes on with 'fast'", stacklevel=2)
    return agent


def swap(net: nn.Module) -> nn.Module:
    """Give every module of a net its twin, where it has one, and every head; returns it."""
    for module in net.modules():
        module.__class__ = TWINS.get(type(module), type(module))
        if isinstance(module, nets.TwoHotHead):
            module.two_hot = faster(module.two_hot)
    return net


def faster(two_hot: symlog.TwoHot) -> symlog.TwoHot:
    """The functions of a head with those of the package replaced by their twins."""
    if two_hot.loss is symlog.two_hot_loss:
        two_hot = two_hot._replace(loss=two_hot_loss)
    return two_hot


# --------------------------------------------------------------------------------------- norms and memory


class FastRMSNorm(nets.RMSNorm):
    """By the length of a vector, which takes one pass over x and no memory of its size."""

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        if x.device.type != "cpu":
            return F.rms_norm(x32, self.scale.shape, self.scale, self.eps).to(x.dtype)
        return (x32 / root_mean_square(x32, self.eps) * self.scale).to(x.dtype)


class FastLayerNorm(variants.LayerNorm):
    """Without a copy in float32 on a CPU, whose kernel takes bfloat16 beside float32 weights."""

    def forward(self, x: Tensor) -> Tensor:
        x32 = x if x.device.type == "cpu" else x.float()
        return F.layer_norm(x32, x.shape[-1:], self.scale, self.shift, self.eps).to(x.dtype)


def norm_silu(norm: nn.Module, x: Tensor) -> Tensor:
    """``silu(norm(x))`` in one piece that keeps less for the way back, where the norm has such a twin."""
    if not torch.is_grad_enabled():
        return F.silu(norm(x), inplace=isinstance(norm, (FastRMSNorm, FastLayerNorm)))
    if isinstance(norm, FastRMSNorm):
        return RMSNormSiLU.apply(x.float(), norm.scale, norm.eps).to(x.dtype)
    if isinstance(norm, FastLayerNorm) and x.dim() == 4:  # images: memory; of vectors, the plain form is faster
        x32 = x if x.device.type == "cpu" else x.float()
        return LayerNormSiLU.apply(x32, norm.scale, norm.shift, norm.eps).to(x.dtype)
    return F.silu(norm(x))


class FastLayer(nets.Layer):
    """Linear, then norm and SiLU in one piece."""

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self[0](x))

    def finish(self, x: Tensor) -> Tensor:
        """Norm and SiLU of what the linear layer puts out: (..., units) -> (..., units)."""
        return norm_silu(self[1], x)


class FastStages(nets.Stages):
    """Each norm and the SiLU behind it in one piece."""

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            if isinstance(module, nets.ChannelNorm):
                x = norm_silu(module.norm, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            elif not isinstance(module, nn.SiLU):
                x = module(x)
        return x


def root_mean_square(x: Tensor, eps: float) -> Tensor:
    """``sqrt(mean(x²) + eps)`` over the last axis, which stays: (..., F) -> (..., 1).

    By the length of a vector, which takes one pass over x and no memory of its size. Measured on a CPU, gradient steps:
    1 % less time in the cpu preset, 3 % in the default at the size of S1.
    """
    root = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
    return torch.hypot(root, torch.full((), eps**0.5, dtype=x.dtype, device=x.device))


class RMSNormSiLU(torch.autograd.Function):
    """``silu(x / rms * scale)`` with its gradient written out.

    A third of the time of the RMS norm under autograd, and one tensor fewer is kept for the way back: what goes into
    SiLU is computed again. With ``n = x / rms``: d x = (g - n mean(g n)) / rms, where g = scale d silu.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float) -> Tensor:
        rms = root_mean_square(x, eps)
        normed = x / rms
        ctx.save_for_backward(normed, rms, scale)
        return F.silu(normed * scale, inplace=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, rms, scale = ctx.saved_tensors
        grad = _silu_backward_(grad, normed * scale)
        of_scale = grad * normed
        shared = (of_scale @ scale).div_(-len(scale)).unsqueeze(-1)
        return grad.mul_(scale).addcmul_(normed, shared).div_(rms), of_scale.flatten(0, -2).sum(0), None


class LayerNormSiLU(torch.autograd.Function):
    """``silu(layer_norm(x))``, keeping one tensor fewer for the way back: what goes into SiLU is computed again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
        normed, mean, inverse = torch.native_layer_norm(x, scale.shape, scale, shift, eps)
        ctx.save_for_backward(x, mean, inverse, scale, shift)
        ctx.eps = eps
        return F.silu(normed, inplace=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, inverse, scale, shift = ctx.saved_tensors
        normed = torch.native_layer_norm(x, scale.shape, scale, shift, ctx.eps)[0]
        grad = _silu_backward_(grad, normed)
        wanted = list(ctx.needs_input_grad[:3])
        back = torch.ops.aten.native_layer_norm_backward
        return *back(grad, x, scale.shape, mean, inverse, scale, shift, wanted), None


def _silu_backward_(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of ``silu(x)`` for x, written over x."""
    return torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=x)


# ------------------------------------------------------------------------------------------ sequence model


class FastBlockLinear(nets.BlockLinear):
    """By one batched product."""

    def forward(self, x: Tensor) -> Tensor:
        return block_product(x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1]) + self.bias


def block_product(x: Tensor, weight: Tensor) -> Tensor:
    """(N, inputs) times a block-diagonal matrix, given as its blocks (g, inputs/g, outputs/g): (N, outputs)."""
    return side_by_side(torch.bmm(in_blocks(x, len(weight)), weight))


def in_blocks(x: Tensor, count: int) -> Tensor:
    """Each row cut into blocks, blocks first, as ``torch.bmm`` takes them: (N, inputs) -> (count, N, inputs/count)."""
    return x.unflatten(-1, (count, -1)).transpose(0, 1)


def side_by_side(x: Tensor) -> Tensor:
    """Inverse of :func:`in_blocks`: (count, N, outputs/count) -> (N, outputs)."""
    return x.transpose(0, 1).flatten(1)


def tanh(x: Tensor) -> Tensor:
    """torch's own takes several times as long on a CPU."""
    return 2.0 * torch.sigmoid(2.0 * x) - 1.0


class FastBlockGRU(world_model.BlockGRU):
    """What all blocks read is multiplied once, not block by block; actions and weights are prepared once a sequence."""

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        return self.advance(deter, stoch, self.embed_action(action), self.split())

    def embed_action(self, action: Tensor) -> Tensor:
        """What the cell makes of actions (..., A), for all steps at once: (..., units)."""
        return self.from_action(action / action.detach().abs().clamp(min=1.0))

    def split(self) -> tuple[Tensor, Tensor]:
        """The weights of ``hidden`` in two parts.

        Those by which each block reads its own part of h, (g, D/g, D/g), and, blocks side by side, those by which all
        blocks read what they share, (3 units, D).
        """
        own, shared = self.hidden.weight.tensor_split([self.hidden.weight.shape[2]], 1)
        return own, shared.transpose(0, 1).flatten(1)

    def advance(self, deter: Tensor, stoch: Tensor, action: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        """:meth:`forward` from what :meth:`embed_action` and :meth:`split` have prepared."""
        own, shared = weights
        inputs = torch.cat([self.from_deter(deter), self.from_stoch(stoch), action], -1)  # (B, 3 units)
        x = torch.addmm(self.hidden.bias, inputs, shared)
        x = norm_silu(self.norm, x + block_product(deter, own))
        x, deter = in_blocks(x, self.blocks), in_blocks(deter, self.blocks)  # (g, B, D/g)
        gates = torch.baddbmm(self.gates.bias.view(self.blocks, 1, -1), x, self.gates.weight).float()
        reset, candidate, update = gates.chunk(3, -1)
        candidate = tanh(torch.sigmoid(reset) * candidate)
        return side_by_side(torch.lerp(deter, candidate, torch.sigmoid(update - 1.0)))


Step = Callable[[Tensor, Tensor, Tensor], Tensor]


class FastRSSM(world_model.RSSM):
    """What does not depend on the step before is computed for all steps at once: actions, and what the posterior makes
    of embeddings."""

    def _prepared(self) -> tuple[Callable[[Tensor], Tensor], Step]:
        """What to make of actions (..., A), and one step of the cell from what was made of them."""
        cell = self.cell
        if not isinstance(cell, FastBlockGRU):
            return lambda actions: actions, cell
        weights = cell.split()
        return cell.embed_action, lambda deter, stoch, action: cell.advance(deter, stoch, action, weights)

    def observe(
        self, carry: State, embeds: Tensor, prev_actions: Tensor, is_first: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[State, distributions.OneHot]:  # fmt: skip
        keep = 1.0 - is_first.float()[..., None]  # (B, T, 1)
        embed_actions, advance = self._prepared()
        actions = embed_actions(prev_actions * keep)
        first, *rest = (*self.posterior_net[0], self.posterior_net[1])
        of_deter, of_embed = first[0].weight.split([self.deter_dim, embeds.shape[-1]], 1)
        seen = F.linear(embeds, of_embed, first[0].bias)  # (B, T, units)
        states, logits = [], []
        for see, action, kept in zip(seen.unbind(1), actions.unbind(1), keep.unbind(1), strict=True):
            deter = advance(carry.deter * kept, carry.stoch.flatten(1) * kept, action)
            hidden = norm_silu(first[1], torch.addmm(see, deter, of_deter.t()))
            posterior = self.distribution(nn.Sequential(*rest)(hidden))
            carry = State(deter, posterior.sample(generator))
            states.append(carry), logits.append(posterior.logits)
        return State.stack(states), self.latent(torch.stack(logits, 1), self.unimix)

    def imagine(
        self, start: State, policy: Callable[[State], Tensor], horizon: int, generator: torch.Generator | None = None
    ) -> tuple[State, Tensor]:
        state, action = start, policy(start)
        states, actions = [state], [action]
        embed_actions, advance = self._prepared()
        for _ in range(horizon):
            deter = advance(state.deter, state.stoch.flatten(1), embed_actions(action))
            state = State(deter, self.prior(deter).sample(generator))
            action = policy(state)
            states.append(state), actions.append(action)
        return State.stack(states), torch.stack(actions, 1)


class FastWorldModel(FastRSSM, world_model.WorldModel):
    """The world model with the faster loops."""


# ------------------------------------------------------------------------------- dreams, and what is read in them


def two_hot_loss(logits: Tensor, target: Tensor, bins: Tensor) -> Tensor:
    """``symlog.two_hot_loss`` from the two entries of the encoding that are not 0; the dense one is never made."""
    below, above, weight = symlog.neighbours(target.detach(), bins)
    picked = torch.log_softmax(logits, -1).gather(-1, torch.stack([below, above], -1))
    return -torch.lerp(picked[..., 0], picked[..., 1], weight)


def lowered(x: Tensor) -> Tensor:
    """x in the precision that autocast multiplies with, so that several products need not each make a copy."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if kind != "meta" and torch.is_autocast_enabled(kind) else x


def many_dreams(starts: Tensor) -> bool:
    """Whether there are so many starts of dreams that the actor should rather keep its gradient while it dreams than be
    asked once more for its loss: for the way back that is more operations, each of fewer rows."""
    return starts.device.type == "cpu" and len(starts) >= MANY


MANY = 512
"""Fewest dreams for which :func:`many_dreams` says yes."""


class Ones(NamedTuple):
    """Where the ones are in one-hot latents that lie side by side: ``rows`` (..., S) in 0 .. width - 1."""

    rows: Tensor
    width: int

    @classmethod
    def of(cls, stoch: Tensor) -> Ones | None:
        """The ones of latents (..., S, C), or None where a product with many zeros is faster than to look rows up."""
        latents, classes = stoch.shape[-2:]
        few = latents * classes < LOOKUP or stoch.shape[:-2].numel() < LOOKUP
        if stoch.device.type != "cpu" or torch.is_autocast_enabled("cpu") or few:
            return None
        index = torch.mv(stoch.reshape(-1, classes), torch.arange(classes, dtype=stoch.dtype))  # faster than argmax
        rows = index.long().view(-1, latents) + torch.arange(latents) * classes
        return cls(rows.view(stoch.shape[:-1]), latents * classes)

    @staticmethod
    def stack(steps: list[Ones | None]) -> Ones | None:
        """Those of steps (N, S) for a sequence of them (N, T, S)."""
        return Ones(torch.stack([step.rows for step in steps], 1), steps[0].width) if steps[0] else None


LOOKUP = 128
"""Fewest columns and rows for which :class:`Lookup` pays."""


class Lookup(torch.autograd.Function):
    """``x @ W + b`` where the last columns of x are one-hot: their part is a sum of rows of the weights, one a latent.

    Measured on a CPU, 15,360 rows times 512 x 256, 16 latents of 16 classes: 12 ms instead of 19; with 32 of 32, 14
    instead of 48. Backwards the plain products are as fast.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, weight: Tensor, bias: Tensor | None, width: int) -> Tensor:
        # (N, inputs), (N, S), (outputs, inputs), (outputs) -> (N, outputs)
        ctx.save_for_backward(x, weight)
        dense = x.shape[1] - width
        looked_up = F.embedding_bag(rows, weight[:, dense:].t().contiguous(), mode="sum")
        looked_up = looked_up if bias is None else looked_up.add_(bias)
        return looked_up.addmm_(x[:, :dense], weight[:, :dense].t())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, _, to_weight, to_bias, _ = ctx.needs_input_grad
        return (
            grad @ weight if to_x else None, None, grad.t() @ x if to_weight else None,
            grad.sum(0) if to_bias else None, None,
        )  # fmt: skip


def read(head: nn.Module, features: Tensor, ones: Ones | None) -> Tensor:
    """What a head makes of features (..., F); ``ones`` says which of the last of them are 1, while the rest are 0."""
    if ones is None or type(head).forward is not nets.Head.forward:
        return head(features)
    first, *rest = (*head[0], head[1])
    rows = ones.rows.flatten(0, -2)
    x = Lookup.apply(features.flatten(0, -2), rows, first[0].weight, first[0].bias, ones.width)
    return nn.Sequential(*rest)(norm_silu(first[1], x)).unflatten(0, features.shape[:-1]).float()


class KeptDream(NamedTuple):
    """``actor_critic.Dream`` with its last state apart, and what may be used once more."""

    features: Tensor  # (N, H, F)
    final: Tensor  # (N, F), the features of state H
    actions: Tensor  # (N, H, A)
    rewards: Tensor  # (N, H + 1)
    continues: Tensor  # (N, H + 1)
    outputs: Tensor | None  # (N, H, outputs) of the actor with their gradient, where keeping it saves time
    ones: Ones | None  # of the features' latents, where looking them up saves time


@torch.no_grad()
def dream(
    model: world_model.WorldModel, actor: actor_critic.Actor, starts: State, is_terminal: Tensor, horizon: int,
    generator: torch.Generator | None = None,
) -> KeptDream:  # fmt: skip
    """``actor_critic.dream`` that keeps features once, and what the actor put out."""
    seen, ones, outputs = [], [], []  # of each state: its features, where its latents are, what the actor put out
    keep = many_dreams(starts.deter)

    def policy(state: State) -> Tensor:
        seen.append(lowered(state.features)), ones.append(Ones.of(state.stoch))
        with torch.set_grad_enabled(keep):
            outputs.append(read(actor.net, seen[-1], ones[-1]))
        return actor.policy(outputs[-1]).sample(generator)

    actions = model.imagine(starts, policy, horizon, generator)[1]  # its states are let go of: the features hold them
    *features, final = seen
    features, ones = torch.stack(features, 1), Ones.stack(ones[:-1])

    def predict(head: nn.Module) -> Tensor:
        return torch.cat([head.mean(read(head, features, ones)), head.mean(head(final))[:, None]], 1)

    rewards, continues = predict(model.reward), predict(model.cont)
    continues[:, 0] = 1.0 - is_terminal.float()
    with torch.enable_grad():
        kept = torch.stack(outputs[:-1], 1) if keep else None
    return KeptDream(features, final, actions[:, :-1], rewards, continues, kept, ones)


def imagination_losses(
    dream: KeptDream, actor: actor_critic.Actor, critic: actor_critic.Critic, normalizer: nn.Module, config: Any, *,
    actor_loss: Callable[..., Tensor] = actor_critic.actor_loss,
    critic_loss: Callable[..., Tensor] = actor_critic.critic_loss,
    compute_returns: Callable[..., Tensor] = actor_critic.compute_returns,
) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:  # fmt: skip
    """``actor_critic.imagination_losses`` of a :class:`KeptDream`."""
    features, ones = dream.features, dream.ones
    logits = read(critic.head, features, ones)  # with gradient, for the loss
    with torch.no_grad():
        values = torch.cat([critic.mean(logits), critic.mean(critic(dream.final))[:, None]], 1)  # (N, H + 1)
        returns = compute_returns(dream.rewards, values, dream.continues, config.lambda_)
        weights = dream.continues[:, :-1].cumprod(1)
        scale = normalizer(returns)
        slow = critic.slow.mean(read(critic.slow, features, ones))
    policy = actor.policy(read(actor.net, features, ones) if dream.outputs is None else dream.outputs)
    entropies = policy.entropy()
    losses = {
        "actor": actor_loss(
            policy.log_prob(dream.actions), entropies, returns, values[:, :-1], scale, weights, config.entropy_coef
        ),
        "critic": critic_loss(critic, logits, returns, slow, weights, config.slow_critic_coef),
    }
    metrics = {"imagined_return": returns.mean(), "return_scale": scale, "entropy": entropies.detach().mean()}
    return losses, returns, metrics


class FastDreamerV3(DreamerV3):
    """The gradients of the dream are computed before anything is decoded.

    No other loss shares anything with the dream's, and a step then needs memory for one of the two at a time.
    """

    def prepare(self, speed: str) -> None:
        """Make the step anew: what was recorded or compiled belongs to the tensors of that time."""
        self.speed = speed
        self._compiled = compiled(self.loss) if speed == "compile" else None
        self._recorded = RecordedStep(super().update, self.generator) if speed == "graph" else None

    def load(self, path: Any) -> DreamerV3:
        """See ``DreamerV3.load``."""
        super().load(path)
        self.prepare(self.speed)
        return self

    def update(self, batch: Batch) -> tuple[State, dict[str, Tensor]]:
        """See ``DreamerV3.update``."""
        return self._recorded(batch) if self._recorded else super().update(batch)

    def gradients(self, batch: Batch) -> tuple[State, dict[str, Tensor]]:
        """See ``DreamerV3.gradients``."""
        if self.speed == "compile" or self.parts.total_loss is not world_model.total_loss:
            total, states, metrics = (self._compiled or self.loss)(batch)
            with hardware.full_precision(self.device):
                total.backward()
            return states, metrics
        carry, batch = split_context(batch, self.config.num_categories)
        states, posterior = self.follow(batch, carry)
        dreamed, returns, metrics = self.dream_losses(batch, states)
        torch.clear_autocast_cache()  # older torch would use weights cast without gradient once more
        with hardware.full_precision(self.device):
            world_model.total_loss(dreamed, self.scales).backward()
        modelled = self.world_model.losses(batch, states, posterior)
        replayed = self.replay_losses(batch, states, returns)
        with hardware.full_precision(self.device):
            world_model.total_loss({**modelled, **replayed}, self.scales).backward()
        losses = {**modelled, **dreamed, **replayed}
        return states, {**{f"loss/{name}": loss.mean() for name, loss in losses.items()}, **metrics}


TWINS: dict[type, type] = {
    nets.RMSNorm: FastRMSNorm, variants.LayerNorm: FastLayerNorm, nets.Layer: FastLayer, nets.Stages: FastStages,
    nets.BlockLinear: FastBlockLinear, world_model.BlockGRU: FastBlockGRU,
    world_model.RSSM: FastRSSM, world_model.WorldModel: FastWorldModel, DreamerV3: FastDreamerV3,
}  # fmt: skip
"""The twin of each class of modules."""


# ----------------------------------------------------------------------------------------- whole steps on a GPU


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as torch.compile makes it. If that fails, a warning says why, and it goes on as it is.

    For GPUs, where its gain has not been measured; on a CPU it did not pay.
    """
    forms = [torch.compile(function, dynamic=False), function]

    def call(*arguments: Any) -> Any:
        try:
            return forms[0](*arguments)
        except Exception as error:
            if len(forms) == 1:
                raise
            warnings.warn(f"torch.compile failed, going on without: {str(error).splitlines()[0]}", stacklevel=2)
            del forms[0]
            return call(*arguments)

    return call


class RecordedStep:
    """A gradient step recorded as one CUDA graph: the host then sends one command in place of thousands of kernels.

    ``step`` is a function of a batch {key: tensor} that gives tensors (tuples and dicts of them) and never makes the
    host wait. The first calls run as they are, the next is recorded, and all later ones are played back with the new
    batch, and with the numbers that Python held when it was recorded: the learning rate, say. Where recording fails, a
    warning says why, and the step goes on as it is. Its gain has not been measured.
    """

    WARM_UP = 3

    def __init__(
        self, step: Callable[[dict[str, Tensor]], Any], generator: torch.Generator,
        record: Callable[..., Any] | None = None,
    ):  # fmt: skip
        self.step, self.generator, self.record = step, generator, record or record_cuda
        self.calls, self.play = 0, None

    def __call__(self, batch: dict[str, Tensor]) -> Any:
        self.calls += 1
        if self.calls == self.WARM_UP + 1:
            self._prepare(batch)
        if self.play is None:
            return self.step(batch)
        for key, value in batch.items():
            self.inputs[key].copy_(value, non_blocking=True)
        self.play()
        return tree_map(torch.clone, self.results)  # the next call writes where these are

    def _prepare(self, batch: dict[str, Tensor]) -> None:
        self.inputs = {key: value.clone() for key, value in batch.items()}
        try:
            self.play, self.results = self.record(lambda: self.step(self.inputs), self.generator)
        except (RuntimeError, AssertionError) as error:
            warnings.warn(f"the step cannot be recorded and goes on as it is: {error}", stacklevel=3)


def record_cuda(work: Callable[[], Any], generator: torch.Generator) -> tuple[Callable[[], None], Any]:
    """Record what ``work`` would do on the GPU: a function that does it, and the tensors that it writes to.

    ``generator`` is where it draws from: registered, it goes on from one playing to the next.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        results = work()
    return graph.replay, results
