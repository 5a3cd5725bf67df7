"""The files that lesson 00 ships: an agent that learned the Orchard, and recorded games in it."""

from __future__ import annotations

from pathlib import Path

from dreamer_helpers import checkpoint, dreams
from dreamer_helpers.config import preset
from dreamer_helpers.course.data import Origin, write_episodes
from dreamer_helpers.train import train

ORCHARD = "dreamer_helpers/Orchard-v0"


def agent(path: Path, steps: int = 14_000, seed: int = 1) -> Origin:
    """Train the agent and write it down; takes about 5 minutes."""
    progress = train(preset("cpu"), ORCHARD, steps, seed=seed)
    checkpoint.save(path, progress.agent, optimizer=False)
    path.chmod(0o644)
    return Origin(
        "an agent of the preset cpu that learned the Orchard, without its optimizer",
        f"{progress.steps} steps, seed {seed}, {progress.updates} updates",
    )


def episodes(path: Path, number: int = 40, longest: int = 20) -> Origin:
    """Record games of random moves."""
    games = [dreams.random_episode(ORCHARD, seed=1000 + i, max_steps=longest) for i in range(number)]
    write_episodes(path, games)
    return Origin(
        f"{number} episodes of random moves in the Orchard, {sum(len(game) for game in games)} steps: pictures, "
        "actions, rewards, ends",
        f"seeds 1000 to {999 + number}, at most {longest} steps each",
    )


MAKES = {"orchard_agent.safetensors": agent, "orchard_episodes.npz": episodes}
"""How to make each file: a function of its path."""
