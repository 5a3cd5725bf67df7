"""Looking into the dreams of a trained agent: a recorded episode, and what the model imagines in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dreamer_helpers import device as hardware
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.envs import VectorEnv
from dreamer_helpers.errors import UserError
from dreamer_helpers.world_model import State, previous_actions


@dataclass
class Episode:
    """One episode of T steps: entry t of every array (T, ...) belongs to step t; ``action`` was taken there."""

    obs: dict[str, np.ndarray]
    action: np.ndarray
    reward: np.ndarray
    is_first: np.ndarray
    is_terminal: np.ndarray

    def __len__(self) -> int:
        return len(self.reward)


@dataclass
class OpenLoop:
    """Reality and dream side by side, (T, ...) each. The first ``context`` steps of the dream were seen."""

    real: np.ndarray
    dreamed: np.ndarray
    reward: np.ndarray  # as dreamed, like the next
    goes_on: np.ndarray  # the predicted continue: gamma, or 0 behind an end
    context: int

    @property
    def is_image(self) -> bool:
        """Whether the entries are pictures."""
        return self.real.ndim == 4


def record_episode(agent: DreamerV3, env: Any, *, seed: int = 0, greedy: bool = True, max_steps: int = 50) -> Episode:
    """Let the agent play one episode, or its first ``max_steps`` steps. ``env`` as for ``train.train``."""
    state, generator = None, hardware.new_generator(agent.device, seed)

    def choose(record: dict[str, np.ndarray]) -> np.ndarray:
        nonlocal state
        action, state = agent.act(record, state, greedy=greedy, generator=generator)
        return action

    return _record(VectorEnv(env, 1, seed), choose, max_steps)


def random_episode(env: Any, *, seed: int = 0, max_steps: int = 50) -> Episode:
    """The same with uniformly random actions of a discrete space."""
    rng, vector = np.random.default_rng(seed), VectorEnv(env, 1, seed)
    actions = np.eye(vector.actions.dim, dtype=np.float32)
    return _record(vector, lambda _: actions[rng.integers(len(actions), size=1)], max_steps)


def _record(vector: VectorEnv, choose: Callable[[dict[str, np.ndarray]], np.ndarray], max_steps: int) -> Episode:
    record, rows = vector.reset(), []
    while len(rows) < max_steps:
        action = choose(record)
        rows.append({**record, "action": action})
        if record["is_last"][0]:
            break
        record = vector.step(action)
    vector.close()
    arrays = {key: np.stack([row[key][0] for row in rows]) for key in rows[0]}
    obs = {key: arrays[key] for key in vector.canonical_space}
    return Episode(obs, arrays["action"], arrays["reward"], arrays["is_first"], arrays["is_terminal"])


@torch.no_grad()
def open_loop(agent: DreamerV3, episode: Episode, context: int = 1, *, seed: int = 0) -> OpenLoop:
    """Show the model ``context`` steps, then let it dream the rest of the episode from the actions alone.

    The first entry of the observation is decoded: images in [0, 1], vectors in their own units. Raises UserError
    unless ``context`` leaves at least one step to dream.
    """
    if not 1 <= context < len(episode):
        raise UserError(f"open_loop: context must be from 1 to {len(episode) - 1} for this episode, not {context}")
    model, key = agent.world_model, next(iter(agent.observation_space))
    remaining = iter(torch.from_numpy(episode.action[context - 1 :]).to(agent.device))
    generator = hardware.new_generator(agent.device, seed)
    states = _watch(agent, episode, context, generator)
    dream, _ = model.imagine(_last(states), lambda _: next(remaining)[None], len(episode) - context, generator)
    both = State(*(torch.cat([a, b[:, 1:]], 1) for a, b in zip(states, dream, strict=True)))
    return OpenLoop(episode.obs[key], model.decode(both)[key][0].cpu().numpy(), *_read(agent, both), context)


@torch.no_grad()
def dream_on(agent: DreamerV3, episode: Episode, at: int = 0, horizon: int = 15, *, seed: int = 0) -> OpenLoop:
    """Close the eyes at step ``at`` and let actor and model go on by themselves for ``horizon`` steps.

    ``real`` holds what was seen up to there, so the two differ in length.
    """
    model, key = agent.world_model, next(iter(agent.observation_space))
    generator = hardware.new_generator(agent.device, seed)
    start = _last(_watch(agent, episode, at + 1, generator))
    dream, _ = model.imagine(start, lambda s: agent.actor(s.features).sample(generator), horizon, generator)
    seen = episode.obs[key][: at + 1]
    return OpenLoop(seen, model.decode(dream)[key][0].cpu().numpy(), *_read(agent, dream), 1)


def _watch(agent: DreamerV3, episode: Episode, steps: int, generator: torch.Generator) -> State:
    """The model's states (1, steps, ...) over the first steps of an episode."""
    model = agent.world_model
    arrays = {**episode.obs, "is_first": episode.is_first, "action": episode.action}
    seen = agent.to_device({key: value[None, :steps] for key, value in arrays.items()})
    previous = previous_actions(seen["action"], seen["is_first"])
    states, _ = model.observe(model.initial(1), model.encode(seen), previous, seen["is_first"], generator)
    return states


def _read(agent: DreamerV3, states: State) -> tuple[np.ndarray, np.ndarray]:
    """The rewards and continues that the model expects in states (1, T, ...): (T,) each."""
    model = agent.world_model
    return tuple(head.mean(head(states.features))[0].cpu().numpy() for head in (model.reward, model.cont))


def _last(states: State) -> State:
    """The last of a sequence of states: (B, T, ...) -> (B, ...)."""
    return State(states.deter[:, -1], states.stoch[:, -1])
