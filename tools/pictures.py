"""Draw the course's worlds for the README: ``python tools/pictures.py`` writes notebooks/figures/worlds.png."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from dreamer_helpers import plots, worlds

FIGURE = Path(__file__).resolve().parent.parent / "notebooks" / "figures" / "worlds.png"
FRAMES = 8


def best_game(world: worlds.World, seed: int, steps: int) -> list[np.ndarray]:
    """The pictures of the first game, in the order of its actions, that gets the most in so many steps."""
    games = [game(world, seed, actions) for actions in itertools.product(range(world.action_space.n), repeat=steps)]
    return max(games, key=lambda played: played[1])[0]


def game(world: worlds.World, seed: int, actions: tuple[int, ...]) -> tuple[list[np.ndarray], float]:
    """The pictures of a game and its return."""
    frames, total = [world.reset(seed=seed)[0]], 0.0
    for action in actions:
        frame, reward, terminated, truncated, _ = world.step(action)
        frames, total = [*frames, frame], total + reward
        if terminated or truncated:
            break
    return frames, total


def main() -> None:
    """One game of each world, a row each."""
    games = {
        "T-maze: remember the colour": best_game(worlds.TMaze(), 0, 5),
        "Catch: be there in time": best_game(worlds.Catch(), 4, 7),
        "Orchard: apples, not burrs": best_game(worlds.Orchard(), 11, 7),
    }
    figure = plots.new_figure(9.5, 4.1)
    for row, (title, frames) in enumerate(games.items()):
        for column, frame in enumerate(frames):
            axes = figure.add_subplot(3, FRAMES, row * FRAMES + column + 1)
            axes.imshow(frame, interpolation="nearest")
            axes.set_axis_off()
            if column == 0:
                axes.set_title(title, loc="left", fontsize=10)
    FIGURE.write_bytes(plots.render(figure))


if __name__ == "__main__":
    main()
