"""What an agent is worth: returns of fresh episodes."""

from __future__ import annotations

from typing import Any

from dreamer_helpers import device as hardware
from dreamer_helpers import envs
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.envs import Episodes
from dreamer_helpers.errors import UserError


def evaluate(
    agent: DreamerV3, env: Any, episodes: int, *, seed: int = 1_000_000, greedy: bool = True, every_start: bool = False
) -> list[float]:
    """Returns of so many fresh episodes, none of which the agent learns from.

    Every environment plays the same number of episodes, so that short ones are not counted more often. With
    ``every_start`` the episodes begin with the starts 0, 1, 2, ... of a world that has numbered ones. Random numbers
    come from a generator of its own, begun with ``seed``. Raises UserError unless there is an episode to play.
    """
    if episodes < 1:
        raise UserError(f"episodes must be a positive number, not {episodes}")
    count = min(episodes, 25)
    quota = [episodes // count + (i < episodes % count) for i in range(count)]
    returns: list[list[float]] = [[] for _ in quota]
    vector = envs.VectorEnv(env, count, seed, every_start)
    generator = hardware.new_generator(agent.device, seed)
    record, state, tracker = vector.reset(), None, Episodes(count)
    while any(len(done) < wanted for done, wanted in zip(returns, quota, strict=True)):
        action, state = agent.act(record, state, greedy=greedy, generator=generator)
        record = vector.step(action)
        for i, value, _ in tracker.add(record):
            returns[i].append(value)
    vector.close()
    return [value for done, wanted in zip(returns, quota, strict=True) for value in done[:wanted]]
