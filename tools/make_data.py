"""Remake what ``data/`` ships for the lessons, and its manifest: ``python tools/make_data.py`` (about 5 minutes).

The manifest says of each file what it is, how it was made, its size and its sha256, which loading checks.
"""

from __future__ import annotations

import hashlib
import json

from dreamer_helpers import checkpoint, device
from dreamer_helpers.config import preset
from dreamer_helpers.course.data import DATA, MANIFEST
from dreamer_helpers.train import train

STEPS, SEED = 14_000, 1


def main() -> None:
    """Train the agent of lesson 00 and write it down."""
    device.set_threads(1)
    progress = train(preset("cpu"), "dreamer_helpers/Orchard-v0", STEPS, seed=SEED)
    path = DATA / "orchard_agent.safetensors"
    checkpoint.save(path, progress.agent, optimizer=False)
    path.chmod(0o644)
    content = path.read_bytes()
    entry = {
        "what": "an agent of the preset cpu that learned the Orchard, without its optimizer",
        "made": f"python tools/make_data.py: {progress.steps} steps, seed {SEED}, {progress.updates} updates",
        "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "licence": "MIT, as the code",
    }  # fmt: skip
    MANIFEST.write_text(json.dumps({path.name: entry}, indent=1) + "\n")
    print(f"{path.name}: {len(content):,} bytes; recent return {progress.recent_return:.2f}")


if __name__ == "__main__":
    main()
