"""The optimiser: adaptive gradient clipping, LaProp, and a linear warm-up, one for all nets of the agent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from inspect import unwrap
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dreamer_helpers.config import Config


class Trainable(Protocol):
    """What an optimiser is made for: an agent."""

    config: Config
    world_model: nn.Module
    actor: nn.Module
    critic: nn.Module  # with its ``head``, which learns, and a slow copy, which does not

    def parameters(self) -> Iterator[nn.Parameter]:
        """All parameters."""


def clip_adaptively_(parameters: list[Tensor], gradients: list[Tensor], clip: float) -> None:
    """Adaptive gradient clipping (AGC), in place: no gradient is longer than ``clip`` times its weights.

    ``g /= max(1, |g| / (clip max(0.001, |p|)))`` with the norms of whole tensors, biases and norm scales included.
    Source: code, embodied/jax/opt.py, clip_by_agc; tests/golden/optimizer.npz.
    """
    limits = torch._foreach_norm(parameters)
    torch._foreach_clamp_min_(limits, 1e-3)
    torch._foreach_mul_(limits, clip)
    ratios = torch._foreach_div(torch._foreach_norm(gradients), limits)
    torch._foreach_clamp_min_(ratios, 1.0)
    torch._foreach_div_(gradients, ratios)


class Uncompiled:
    """Methods of torch's optimisers without the wrapper that imports its compiler: 72 MB and a second saved."""

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class LaProp(Uncompiled, Optimizer):
    """LaProp: divide the gradient by its running root mean square first, then take the momentum of the result.

    Adam does it the other way round, so that an outlier's size stays in its momentum. With b1, b2 the two decays and
    t the number of the update, counted from 1:

        g  = AGC(g)
        v  = b2 v + (1 - b2) g²              u = g / (sqrt(v / (1 - b2^t)) + eps)
        m  = b1 m + (1 - b1) u               p = p - lr_t m / (1 - b1^t)

    and ``lr_t = lr min(1, (t - 1) / warmup)``: the first update of a warm-up moves nothing. Source: code, agent.py,
    _make_opt; tests/golden/optimizer.npz. Gradients are changed in place. A parameter without a
    gradient stays as it is. The number t is counted on the device, so that a step can be recorded there.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 4e-5, clip: float = 0.3, beta1: float = 0.9, beta2: float = 0.999,
        eps: float = 1e-20, warmup: int = 1000,
    ):  # fmt: skip
        super().__init__(params, dict(lr=lr, clip=clip, beta1=beta1, beta2=beta2, eps=eps, warmup=warmup))
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"square": torch.zeros_like(p), "momentum": torch.zeros_like(p)}
            group["updates"] = torch.zeros((), device=group["params"][0].device)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of another; the number of updates comes to the device of the parameters."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group["updates"] = torch.as_tensor(group["updates"], dtype=torch.float32).to(group["params"][0].device)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update from the gradients that stand in the parameters."""
        for group in self.param_groups:
            group["updates"] += 1
            self._update(group)

    def _update(self, group: dict[str, Any]) -> None:
        params, t = [p for p in group["params"] if p.grad is not None], group["updates"]
        if not params:
            return
        beta1, beta2 = group["beta1"], group["beta2"]
        weight1, weight2 = (-torch.expm1(t * (math.log(b) if b else -math.inf)) for b in (beta1, beta2))  # 1 - b^t
        warm = ((t - 1) / group["warmup"]).clamp(max=1.0) if group["warmup"] else 1.0
        gradients = [p.grad for p in params]
        squares = [self.state[p]["square"] for p in params]
        momenta = [self.state[p]["momentum"] for p in params]
        if group["clip"]:
            clip_adaptively_(params, gradients, group["clip"])
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        roots = torch._foreach_div(squares, weight2)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_mul_(momenta, beta1)
        torch._foreach_addcdiv_(momenta, gradients, roots, 1 - beta1)
        torch._foreach_sub_(params, torch._foreach_mul(momenta, group["lr"] * warm / weight1))


def laprop(agent: Trainable) -> LaProp:
    """The one optimiser of an agent; actor and critic may have learning rates of their own."""
    config = agent.config
    nets = (
        (agent.world_model, config.learning_rate),
        (agent.actor, config.actor_learning_rate or config.learning_rate),
        (agent.critic.head, config.critic_learning_rate or config.learning_rate),
    )
    groups = [{"params": list(net.parameters()), "lr": rate} for net, rate in nets]
    return LaProp(
        groups, clip=config.gradient_clip, beta1=config.beta1, beta2=config.beta2, eps=config.adam_eps,
        warmup=config.warmup,
    )  # fmt: skip
