"""The course's own worlds: small, quick, drawn in pixels, with returns that can be computed.

They are registered with Gymnasium as ``dreamer_helpers/Name-v0`` once ``dreamer_helpers.envs`` is imported.
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

FLOOR, WALL, AGENT = (24, 26, 38), (92, 100, 124), (240, 240, 240)
CUES = ((230, 159, 0), (86, 180, 233))  # orange means up, blue means down; apart for colour-blind eyes too


class TMaze(gym.Env):
    """A corridor with a junction at its end: remember at the junction what was seen at the start.

    The first observation alone shows a coloured cue. The agent walks right along ``corridor`` cells to the junction
    and turns up (orange cue) or down (blue cue): reward 1 for the right turn, and either turn ends the episode. The
    last picture shows at the end of which arm the prize was. Every other step gives 0, and after ``patience`` steps
    the episode ends without a prize. Images are 16 x 16 x 3, a cell is 2 x 2 pixels. Actions: 0 up, 1 right, 2 down,
    3 left. Best return 1; without memory at most 0.5 on average (:func:`tmaze_bounds`).
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 4}
    MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))

    def __init__(self, corridor: int = 4, patience: int = 12, render_mode: str | None = None):
        if not 1 <= corridor <= 6:
            raise ValueError(f"TMaze: corridor must be from 1 to 6 cells, not {corridor}")
        if patience <= corridor:
            raise ValueError(f"TMaze: patience must be more than the {corridor} steps of the corridor, not {patience}")
        self.corridor, self.patience, self.render_mode = corridor, patience, render_mode
        self.observation_space = spaces.Box(0, 255, (16, 16, 3), np.uint8)
        self.action_space = spaces.Discrete(4)
        self.position, self.cue, self.steps = 0, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new cue, drawn evenly; the agent stands at the start of the corridor."""
        super().reset(seed=seed)
        self.position, self.cue, self.steps = 0, int(self.np_random.integers(2)), 0
        return self._image(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move by one cell; turning at the junction ends the episode, and so does losing too much time."""
        self.steps += 1
        vertical, horizontal = self.MOVES[int(action)]
        if vertical and self.position == self.corridor:
            right = (vertical == -1) == (self.cue == 0)
            return self._image(turned=vertical), 1.0 if right else 0.0, True, False, {}
        self.position = int(np.clip(self.position + horizontal, 0, self.corridor))
        return self._image(), 0.0, self.steps >= self.patience, False, {}

    def render(self) -> np.ndarray:
        """What the agent sees, (16, 16, 3) uint8."""
        return self._image()

    def get_state(self) -> dict[str, Any]:
        """Everything that decides how the world goes on."""
        return {
            "position": self.position, "cue": self.cue, "steps": self.steps,
            "rng": self.np_random.bit_generator.state,
        }  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state from :meth:`get_state`."""
        self.position, self.cue, self.steps = state["position"], state["cue"], state["steps"]
        self.np_random.bit_generator.state = state["rng"]

    def _image(self, turned: int = 0) -> np.ndarray:
        cells = np.full((8, 8, 3), WALL, np.uint8)
        middle, left = 4, 1
        cells[middle, left : left + self.corridor + 1] = FLOOR
        cells[middle - 2 : middle + 3, left + self.corridor] = FLOOR
        if self.steps == 0:
            cells[1, 1:3] = CUES[self.cue]
        if turned:  # the prize waited at the end of one arm
            cells[middle + (-2, 2)[self.cue], left + self.corridor] = CUES[self.cue]
        cells[middle + turned, left + self.position] = AGENT
        return cells.repeat(2, 0).repeat(2, 1)


def tmaze_bounds(corridor: int = 4, steps: int = 12) -> dict[str, float]:
    """Mean returns of three policies in :class:`TMaze`: ``random``, the best ``memoryless`` one, and the ``best``.

    Computed, not played: all deterministic functions from what is seen to an action are tried, (P,) at once. The
    best memoryless one must do well with both cues, the best of all may be chosen for each cue. A stochastic
    memoryless policy cannot beat 1/2 either: which way it turns does not depend on the cue, and if its first step
    makes it slower with one cue, that only lowers its chance to turn at all.
    """
    seen = corridor + 3  # the start with either cue, then corridor + 1 places
    policies = np.array(list(itertools.product(range(4), repeat=seen)))  # (P, seen)
    returns = np.stack([_play_all(policies, cue, corridor, steps) for cue in (0, 1)])  # (2, P)
    return {
        "random": _random_return(corridor, steps),
        "memoryless": float(returns.mean(0).max()),
        "best": float(returns.max(1).mean()),
    }


def _play_all(policies: np.ndarray, cue: int, corridor: int, steps: int) -> np.ndarray:
    """The return of each deterministic memoryless policy (P, seen) with one cue: (P,)."""
    every = np.arange(len(policies))
    position, running, returns = np.zeros(len(policies), int), np.ones(len(policies), bool), np.zeros(len(policies))
    for t in range(steps):
        action = policies[every, cue if t == 0 else 2 + position]
        turns = running & (position == corridor) & (action % 2 == 0)
        returns[turns] = action[turns] == 2 * cue  # 0 is up, for cue 0; 2 is down, for cue 1
        running &= ~turns
        position = np.clip(position + (action == 1) - (action == 3), 0, corridor)
    return returns


def _random_return(corridor: int, steps: int) -> float:
    """The mean return of uniformly random actions, by following the chance to be at each place."""
    chance, total = np.eye(corridor + 1)[0], 0.0
    for _ in range(steps):
        total += chance[-1] / 4  # one action of four is the right turn
        following = chance / 2  # up and down change nothing in the corridor
        following[-1] = 0.0  # and end the episode at the junction
        following[1:] += chance[:-1] / 4
        following[-1] += chance[-1] / 4
        following[:-1] += chance[1:] / 4
        following[0] += chance[0] / 4
        chance = following
    return float(total)


gym.register("dreamer_helpers/TMaze-v0", TMaze)
