"""What ``python -m dreamer_helpers.symlog`` shows, and the like: each idea at work, in seconds."""

from __future__ import annotations

import torch
from gymnasium import spaces

from dreamer_helpers import actor_critic as behaviour
from dreamer_helpers import device as hardware
from dreamer_helpers import symlog as squash
from dreamer_helpers import train as training
from dreamer_helpers.config import preset
from dreamer_helpers.world_model import State, WorldModel


def symlog() -> None:
    """Numbers of very different size, there and back."""
    bins = squash.symexp_bins()
    print("x            symlog(x)    symexp(symlog(x))    mean of the two-hot encoding")
    for value in (-1000.0, -1.0, -0.001, 0.0, 0.5, 3.0, 1e6):
        x = torch.tensor(value)
        small = squash.symlog(x)
        mean = squash.two_hot_mean(squash.two_hot_encoding(x, bins).log(), bins)
        print(f"{x:<12g} {small:<12.5g} {squash.symexp(small):<20.5g} {mean:.5g}")
    uniform = torch.zeros(255)
    left_to_right = sum((torch.softmax(uniform, 0) * bins).unbind(), torch.tensor(0.0))
    mean = squash.two_hot_mean(uniform, bins)
    print(f"mean of uniform logits: {mean}, added from left to right: {left_to_right:g}")


def world_model() -> None:
    """A light that blinks by a rule: after some updates the model dreams the rule on."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    space = spaces.Dict({"vector": spaces.Box(-1, 1, (1,))})
    model = WorldModel(preset("cpu"), space, action_dim=1)
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
        start = State(states.deter[:1, 11], states.stoch[:1, 11])
        dream, _ = model.imagine(start, lambda _: torch.zeros(1, 1), horizon=12)
        print("dreamed", [round(x, 1) for x in model.decode(dream)["vector"][0, 1:, 0].tolist()])
        print("real   ", light[12:].tolist())


def actor_critic() -> None:
    """Three arms pay -1, 0 and 1000 times a scale; the actor finds the best one whatever the scale."""
    config = preset("cpu", imagination_horizon=1)
    for scale in (0.01, 1.0, 100.0):
        torch.manual_seed(0)
        torch.set_num_threads(1)
        actor, critic = behaviour.Actor(config, 4, True, (3,)), behaviour.Critic(config, 4)
        normalizer = behaviour.ReturnNormalizer()
        optimizer = torch.optim.Adam([*actor.parameters(), *critic.head.parameters()], 1e-2)
        features, final = torch.ones(256, 1, 4), torch.ones(256, 4)
        for _ in range(60):
            with torch.no_grad():
                actions = actor(features).sample()
            pay = actions[:, 0] @ torch.tensor([-1.0, 0.0, 1000.0]) * scale
            goes_on = torch.tensor([[1.0, 0.0]]).repeat(256, 1)
            dream = behaviour.Dream(features, final, actions, pay[:, None].expand(-1, 2), goes_on)
            losses, _, _ = behaviour.imagination_losses(dream, actor, critic, normalizer, config)
            optimizer.zero_grad()
            sum(loss.mean() for loss in losses.values()).backward()
            optimizer.step()
            critic.update_slow()
        probs = actor(features[0, 0]).components[0].probs.tolist()
        value = critic.mean(critic(features[0, 0])).item()
        print(f"pay x{scale:<6g} policy {[round(p, 2) for p in probs]}  value {value:.4g}")


def train() -> None:
    """A few seconds of CartPole: losses fall."""
    hardware.set_threads(1)
    progress = training.train(preset("cpu"), "CartPole-v1", 800, log_every=200, progress_bar=False)
    columns = ("steps", "updates", "return", "loss/vector", "loss/reward", "loss/continue")
    for row in progress.log:
        print("  ".join(f"{key} {row.get(key, float('nan')):.3g}" for key in columns))
