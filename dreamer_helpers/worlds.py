"""The course's own worlds: small, quick, drawn in pixels, with returns that can be computed (``bounds.py``).

``dreamer_helpers.envs`` registers them with Gymnasium as ``dreamer_helpers/Name-v0``.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

FLOOR, WALL, AGENT = (24, 26, 38), (92, 100, 124), (240, 240, 240)
CUES = ((230, 159, 0), (86, 180, 233))  # orange means up, blue means down; apart for colour-blind eyes too
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (row, column): up, right, down, left

Step = tuple[np.ndarray, float, bool, bool, dict[str, Any]]


class World(gym.Env):
    """What the worlds share: they show pictures, and their state can be taken out and put back.

    ``VARIABLES`` names the attributes, of plain values and lists, that decide how a world goes on.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 4}
    VARIABLES: ClassVar[tuple[str, ...]]

    def __init__(self, pixels: int, actions: int, render_mode: str | None):
        self.observation_space = spaces.Box(0, 255, (pixels, pixels, 3), np.uint8)
        self.action_space = spaces.Discrete(actions)
        self.render_mode = render_mode

    def get_state(self) -> dict[str, Any]:
        """Everything that decides how the world goes on, random numbers included, ready for JSON."""
        values = {name: copy.deepcopy(getattr(self, name)) for name in self.VARIABLES}
        return {**values, "rng": self.np_random.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a state from :meth:`get_state`."""
        for name in self.VARIABLES:
            setattr(self, name, copy.deepcopy(state[name]))
        self.np_random.bit_generator.state = state["rng"]

    def render(self) -> np.ndarray:
        """What the agent sees, (H, W, 3) uint8."""
        return self._image()

    def _image(self) -> np.ndarray:
        raise NotImplementedError


class TMaze(World):
    """A corridor with a junction at its end: remember at the junction what was seen at the start.

    The first observation alone shows a coloured cue. The agent walks right along ``corridor`` cells to the junction
    and turns up (orange cue) or down (blue cue): reward 1 for the right turn, and either turn ends the episode. The
    last picture shows at the end of which arm the prize was. Every other step gives 0, and after ``patience`` steps
    the episode ends without a prize. Images are 16 x 16 x 3, a cell is 2 x 2 pixels. Actions: 0 up, 1 right, 2 down,
    3 left. Best return 1; without memory at most 0.5 on average (``bounds.tmaze``).
    """

    VARIABLES = ("position", "cue", "steps", "turned")

    def __init__(self, corridor: int = 4, patience: int = 12, render_mode: str | None = None):
        if not 1 <= corridor <= 6:
            raise ValueError(f"TMaze: corridor must be from 1 to 6 cells, not {corridor}")
        if patience <= corridor:
            raise ValueError(f"TMaze: patience must be more than the {corridor} steps of the corridor, not {patience}")
        super().__init__(16, 4, render_mode)
        self.corridor, self.patience = corridor, patience
        self.position, self.cue, self.steps, self.turned = 0, 0, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new cue, drawn evenly; the agent stands at the start of the corridor."""
        super().reset(seed=seed)
        self.position, self.cue, self.steps, self.turned = 0, int(self.np_random.integers(2)), 0, 0
        return self._image(), {}

    def step(self, action: int) -> Step:
        """Move by one cell; turning at the junction ends the episode, and so does losing too much time."""
        self.steps += 1
        vertical, horizontal = MOVES[int(action)]
        if vertical and self.position == self.corridor:
            self.turned = vertical
            right = (vertical == -1) == (self.cue == 0)
            return self._image(), 1.0 if right else 0.0, True, False, {}
        self.position = int(np.clip(self.position + horizontal, 0, self.corridor))
        return self._image(), 0.0, self.steps >= self.patience, False, {}

    def _image(self) -> np.ndarray:
        cells = np.full((8, 8, 3), WALL, np.uint8)
        middle, left = 4, 1
        cells[middle, left : left + self.corridor + 1] = FLOOR
        cells[middle - 2 : middle + 3, left + self.corridor] = FLOOR
        if self.steps == 0:
            cells[1, 1:3] = CUES[self.cue]
        if self.turned:  # the prize waited at the end of one arm
            cells[middle + (-2, 2)[self.cue], left + self.corridor] = CUES[self.cue]
        cells[middle + self.turned, left + self.position] = AGENT
        return cells.repeat(2, 0).repeat(2, 1)


class Catch(World):
    """A ball falls, drifts to one side and bounces off the walls: be under it when it lands.

    On 8 x 8 cells the ball falls from the top row, one row a step, and moves one column to the left or to the right;
    at a wall it turns round. The paddle moves in the bottom row. After 7 steps the ball lands: reward 1 if the
    paddle is there, else 0. Which way the ball drifts cannot be seen in one picture. Images are 16 x 16 x 3, a cell
    is 2 x 2 pixels. Actions: 0 left, 1 stay, 2 right. There are 128 starts, all of which can be caught
    (``bounds.catch``); ``reset(options={"start": k})`` chooses one.
    """

    VARIABLES = ("row", "ball", "drift", "paddle")
    SIZE: ClassVar[int] = 8
    STARTS: ClassVar[int] = 2 * SIZE * SIZE

    def __init__(self, render_mode: str | None = None):
        super().__init__(2 * self.SIZE, 3, render_mode)
        self.row, self.ball, self.drift, self.paddle = 0, 0, 1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new ball, its column, its drift and the paddle's column drawn evenly, or the start in ``options``."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(self.STARTS))
        start = (options or {}).get("start", drawn)
        if not 0 <= start < self.STARTS:
            raise ValueError(f"Catch: start must be from 0 to {self.STARTS - 1}, not {start}")
        (ball, paddle), rightwards = divmod(start // 2, self.SIZE), start % 2
        self.row, self.ball, self.drift, self.paddle = 0, ball, 2 * rightwards - 1, paddle
        return self._image(), {}

    def step(self, action: int) -> Step:
        """Move the paddle, then the ball."""
        self.paddle = int(np.clip(self.paddle + int(action) - 1, 0, self.SIZE - 1))
        if not 0 <= self.ball + self.drift < self.SIZE:
            self.drift = -self.drift
        self.ball, self.row = self.ball + self.drift, self.row + 1
        landed = self.row == self.SIZE - 1
        return self._image(), float(landed and self.ball == self.paddle), landed, False, {}

    def _image(self) -> np.ndarray:
        cells = np.full((self.SIZE, self.SIZE, 3), FLOOR, np.uint8)
        cells[-1, self.paddle] = CUES[1]
        cells[self.row, self.ball] = AGENT if (self.row, self.ball) != (self.SIZE - 1, self.paddle) else CUES[0]
        return cells.repeat(2, 0).repeat(2, 1)


PALETTE: dict[str, tuple[int, int, int]] = {
    "o": (240, 128, 48), "w": (250, 246, 238), "k": (30, 24, 32), "x": (255, 84, 84),  # fox
    "r": (226, 44, 68), "p": (255, 150, 150), "g": (126, 214, 92),  # apple
    "b": (150, 196, 60), "y": (236, 240, 130), "d": (86, 120, 44),  # burr
}  # fmt: skip
SPRITES: dict[str, tuple[str, ...]] = {
    "fox": ("o...o", "ooooo", "okoko", "wowow", ".wkw."),
    "hurt": ("o...o", "ooooo", "kokok", "xwowx", ".xxx."),
    "apple": ("..gg.", ".rkr.", "rprrr", "rrrrr", ".rrr."),
    "burr": ("b.b.b", ".yby.", "bbdbb", ".yby.", "b.b.b"),
}
"""Pictures of 5 x 5 pixels; a dot lets the background show."""


class Orchard(World):
    """A fox catches the apples that fall at dusk, and keeps out from under the burrs.

    Three apples and a burr fall in columns of their own, one row a step, again and again from the top. Where the
    fox stands as one lands, an apple is caught: reward 1, and it is gone; a burr hurts: reward -1, and the fox
    winces in that picture. With the last apple the episode ends, after 25 steps it is cut. Every reset draws another
    layout: who falls in which of the five columns, from which height, and where the fox is. Nothing else is random,
    so that a dream can be right. Images are 32 x 32 x 3, five rows and columns of 6 x 6 pixels. Actions: 0 left,
    1 stay, 2 right. Returns: ``bounds.orchard``.
    """

    VARIABLES = ("fox", "hurt", "things", "steps")
    SIZE: ClassVar[int] = 5
    LIMIT: ClassVar[int] = 25
    NAMES: ClassVar[tuple[str, ...]] = ("apple", "apple", "apple", "burr")

    def __init__(self, render_mode: str | None = None):
        super().__init__(32, 3, render_mode)
        self.fox, self.hurt, self.steps = 0, False, 0
        self.things: list[list[Any]] = []  # (name, column, row) of each

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new layout."""
        super().reset(seed=seed)
        columns = self.np_random.permutation(self.SIZE).tolist()
        rows = self.np_random.integers(self.SIZE - 1, size=len(self.NAMES)).tolist()  # above the ground
        self.things = [list(thing) for thing in zip(self.NAMES, columns, rows, strict=False)]
        self.fox, self.hurt, self.steps = int(self.np_random.integers(self.SIZE)), False, 0
        return self._image(), {}

    def step(self, action: int) -> Step:
        """The fox walks, then everything falls by a row."""
        self.fox = int(np.clip(self.fox + int(action) - 1, 0, self.SIZE - 1))
        self.things = [[name, column, (row + 1) % self.SIZE] for name, column, row in self.things]
        self.steps += 1
        met = [name for name, column, row in self.things if (column, row) == (self.fox, self.SIZE - 1)]
        self.hurt = "burr" in met
        if caught := "apple" in met:
            self.things = [thing for thing in self.things if thing != ["apple", self.fox, self.SIZE - 1]]
        over = all(name == "burr" for name, *_ in self.things)
        return self._image(), float(caught) - float(self.hurt), over, self.steps >= self.LIMIT, {}

    def _image(self) -> np.ndarray:
        image = BACKGROUND.copy()
        fox = ("hurt" if self.hurt else "fox", self.fox, self.SIZE - 1)
        for name, column, row in [*self.things, fox]:
            place = image[2 + 6 * row : 7 + 6 * row, 1 + 6 * column : 6 + 6 * column]
            for y, line in enumerate(SPRITES[name]):
                for x, letter in enumerate(line):
                    if letter != ".":
                        place[y, x] = PALETTE[letter]
        return image


def _dusk() -> np.ndarray:
    """The sky from night to the last light, a moon, a few stars, and grass: (32, 32, 3) uint8."""
    height = np.linspace(0, 1, 27)[:, None, None]
    sky = (1 - height) * np.array([18, 20, 52]) + height * np.array([112, 62, 96])
    image = np.empty((32, 32, 3), np.uint8)
    image[:27] = sky.round()
    image[27:] = (24, 58, 50)
    image[27, ::2] = image[28, 1::4] = (46, 92, 62)
    for row, column in ((3, 5), (8, 13), (2, 17), (12, 3), (6, 29), (15, 22), (11, 18)):
        image[row, column] = (150, 150, 190)
    image[3:7, 24:28] = (238, 232, 200)
    image[[3, 3, 6, 6], [24, 27, 24, 27]] = image[0, 0]
    return image


BACKGROUND = _dusk()
