"""Remake what ``data/`` ships for the lessons, and its manifest.

    python tools/make_data.py [agent] [episodes]

remakes what is named, or both; the agent takes about 5 minutes. The manifest says of each file what it is, how it was
made, its size and its sha256, which loading checks.
"""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np

from dreamer_helpers import checkpoint, device, dreams
from dreamer_helpers.config import preset
from dreamer_helpers.course.data import DATA, MANIFEST, write_episodes
from dreamer_helpers.train import train

ORCHARD, STEPS, SEED = "dreamer_helpers/Orchard-v0", 14_000, 1


def agent() -> None:
    """Train the agent of lesson 00 and write it down."""
    progress = train(preset("cpu"), ORCHARD, STEPS, seed=SEED)
    path = DATA / "orchard_agent.safetensors"
    checkpoint.save(path, progress.agent, optimizer=False)
    path.chmod(0o644)
    enter(
        path.name,
        "an agent of the preset cpu that learned the Orchard, without its optimizer",
        f"python tools/make_data.py agent: {progress.steps} steps, seed {SEED}, {progress.updates} updates",
    )


def episodes(number: int = 40, longest: int = 20) -> None:
    """Record games of random moves in the Orchard."""
    games = [dreams.random_episode(ORCHARD, seed=1000 + i, max_steps=longest) for i in range(number)]
    write_episodes(DATA / "orchard_episodes.npz", games)
    steps = np.sum([len(game) for game in games])
    enter(
        "orchard_episodes.npz",
        f"{number} episodes of random moves in the Orchard, {steps} steps: pictures, actions, rewards, ends",
        f"python tools/make_data.py episodes: seeds 1000 to {999 + number}, at most {longest} steps each",
    )


def enter(name: str, what: str, made: str) -> None:
    """Enter a file into the manifest as it is now."""
    content = (DATA / name).read_bytes()
    entries = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    entries[name] = {
        "what": what, "made": made, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
        "licence": "MIT, as the code",
    }  # fmt: skip
    MANIFEST.write_text(json.dumps(dict(sorted(entries.items())), indent=1) + "\n")
    print(f"{name}: {len(content):,} bytes")


PARTS = {"agent": agent, "episodes": episodes}


if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(PARTS):
        sys.exit(f"error: no {', '.join(unknown)}; there are {', '.join(PARTS)}")
    device.set_threads(1)
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
