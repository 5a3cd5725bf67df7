"""What ``python -m dreamer_helpers.symlog`` shows, and the like: each idea at work, in seconds.

Each function is given what it shows, so that nothing here needs to know the module that calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers import device as hardware
from dreamer_helpers.config import preset

Function = Callable[..., Any]


def symlog(symlog: Function, symexp: Function, bins: Tensor, encoding: Function, mean: Function) -> None:
    """Numbers of very different size, there and back."""
    print("x            symlog(x)    symexp(symlog(x))    mean of the two-hot encoding")
    for value in (-1000.0, -1.0, -0.001, 0.0, 0.5, 3.0, 1e6):
        x = torch.tensor(value)
        small = symlog(x)
        print(f"{x:<12g} {small:<12.5g} {symexp(small):<20.5g} {mean(encoding(x, bins).log(), bins):.5g}")
    uniform = torch.zeros(len(bins))
    left_to_right = sum((torch.softmax(uniform, 0) * bins).unbind(), torch.tensor(0.0))
    print(f"mean of uniform logits: {mean(uniform, bins)}, added from left to right: {left_to_right:g}")


def world_model(make: Callable[..., nn.Module]) -> None:
    """A light that blinks by a rule: after some updates the model dreams the rule on."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    space = spaces.Dict({"vector": spaces.Box(-1, 1, (1,))})
    model = make(preset("cpu"), space, action_dim=1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    light = (torch.arange(24) % 3 == 0).float()  # on, off, off, on, ...
    batch = {
        "vector": light.repeat(8, 1)[..., None], "prev_action": torch.zeros(8, 24, 1), "reward": light.repeat(8, 1),
        "is_first": (torch.arange(24) == 0).repeat(8, 1), "is_terminal": torch.zeros(8, 24, dtype=torch.bool),
    }  # fmt: skip
    for update in range(101):
        losses, states = model.loss(batch, model.initial(8))
        total = sum(loss.mean() * (0.1 if name == "rep" else 1.0) for name, loss in losses.items())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if update % 25 == 0:
            print(f"update {update:3}  " + "  ".join(f"{k} {v.mean():.3f}" for k, v in losses.items()))
    with torch.no_grad():
        start = type(states)(states.deter[:1, 11], states.stoch[:1, 11])
        dream, _ = model.imagine(start, lambda _: torch.zeros(1, 1), horizon=12)
        print("dreamed", [round(x, 1) for x in model.decode(dream)["vector"][0, 1:, 0].tolist()])
        print("real   ", light[12:].tolist())


def actor_critic(
    make_actor: Function, make_critic: Function, make_normalizer: Function, make_dream: Function, losses_of: Function
) -> None:
    """Three arms pay -1, 0 and 1000 times a scale; the actor finds the best one whatever the scale."""
    config = preset("cpu", imagination_horizon=1)
    for scale in (0.01, 1.0, 100.0):
        torch.manual_seed(0)
        torch.set_num_threads(1)
        actor, critic, normalizer = make_actor(config, 4, True, (3,)), make_critic(config, 4), make_normalizer()
        optimizer = torch.optim.Adam([*actor.parameters(), *critic.head.parameters()], 1e-2)
        features = torch.ones(256, 2, 4)
        for _ in range(60):
            with torch.no_grad():
                actions = actor(features).sample()
            pay = actions[:, :1] @ torch.tensor([-1.0, 0.0, 1000.0]) * scale  # of the first action, at state 1
            goes_on = torch.tensor([[1.0, 0.0]]).repeat(256, 1)
            dream = make_dream(features, actions, pay.expand(-1, 2), goes_on)
            losses, _, _ = losses_of(dream, actor, critic, normalizer, config)
            optimizer.zero_grad()
            sum(loss.mean() for loss in losses.values()).backward()
            optimizer.step()
            critic.update_slow()
        probs = actor(features[0, 0]).components[0].probs.tolist()
        value = critic.mean(critic(features[0, 0])).item()
        print(f"pay x{scale:<6g} policy {[round(p, 2) for p in probs]}  value {value:.4g}")


def train(train: Function) -> None:
    """A few seconds of CartPole: losses fall."""
    hardware.set_threads(1)
    progress = train(preset("cpu"), "CartPole-v1", 800, log_every=200, progress_bar=False)
    columns = ("steps", "updates", "return", "loss/vector", "loss/reward", "loss/continue")
    for row in progress.log:
        print("  ".join(f"{key} {row.get(key, float('nan')):.3g}" for key in columns))
