"""Checkpoints: tensors and a JSON header in one safetensors file. No code is stored, so none can be run by loading.

An *agent* file holds what acts and learns: parameters, optimiser, normaliser. A *training* file holds an agent and
everything else that decides how its training goes on: replay, environments, random numbers, counters.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreamer_helpers.config import Config
from dreamer_helpers.errors import UserError

AGENT, TRAINING = "dreamer-helpers agent", "dreamer-helpers training"
VERSION = 4
TRAINING_FILE, AGENT_FILE = "training.safetensors", "agent.safetensors"


class Agent(Protocol):
    """What can be kept: an agent (``agent.DreamerV3``)."""

    config: Config
    spaces: tuple[spaces.Space, spaces.Space]
    foreign: dict[str, str]  # the slots that do not hold the package's own part, and the names of these
    generator: torch.Generator
    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers."""

    def load_state_dict(self, state: dict[str, Tensor]) -> Any:
        """Take over parameters and buffers."""


def save(path: str | Path, agent: Agent, training: dict[str, Any] | None = None, *, optimizer: bool = True) -> None:
    """Write an agent, and with ``training`` the rest of its training, beside the file first, then rename.

    Without the optimizer the file is a third as large, and an agent loaded from it learns from a fresh start. At any
    moment the file is either the old one or the new one, whole. Raises UserError if it cannot be written; the old one
    is then still there.
    """
    tensors: dict[str, Tensor] = {}
    random = {"device": agent.generator.device.type, "state": agent.generator.get_state()}
    content = {"agent": agent.state_dict(), "optimizer": None, "random": random, "training": training}
    if optimizer:
        content["optimizer"] = agent.optimizer.state_dict()
    header = {
        "format": AGENT if training is None else TRAINING, "version": VERSION, "config": agent.config.to_dict(),
        "parts": agent.foreign,
        "spaces": [space_to_json(space) for space in agent.spaces], "content": _pack(content, tensors),
    }  # fmt: skip
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, {"header": json.dumps(header)})
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # on the disk before it takes the old one's place, should the power fail
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"cannot write the checkpoint {path}: {error}") from None


def describe(path: str | Path) -> tuple[Config, spaces.Space, spaces.Space]:
    """The configuration, observation space and action space that a checkpoint was made for."""
    header = _read(path, (AGENT, TRAINING), tensors=False)[0]
    return Config.from_dict(header["config"]), *(space_from_json(space) for space in header["spaces"])


def load_into(path: str | Path, agent: Agent) -> None:
    """Take over everything of the agent in a file, after checking that it belongs to this task and configuration."""
    header, content = _read(path, (AGENT, TRAINING))
    if header["spaces"] != [space_to_json(space) for space in agent.spaces]:
        raise UserError(f"{path} was trained on another task: its observation or action space differs")
    stored, own = Config.from_dict(header["config"]).to_dict(), agent.config.to_dict()
    if different := [name for name in own if stored[name] != own[name]]:
        raise UserError(
            f"{path} has another configuration ({', '.join(different[:5])}); "
            "DreamerV3.from_checkpoint makes an agent that fits"
        )
    if set(header["parts"]) != set(agent.foreign):
        theirs, ours = (", ".join(sorted(parts)) or "none" for parts in (header["parts"], agent.foreign))
        raise UserError(
            f"{path} holds an agent whose parts are not all the package's own ({theirs}; this one's: {ours}); give the "
            "same parts, such as parts=Parts.from_passport()"
        )
    shapes = {name: value.shape for name, value in agent.state_dict().items()}
    if shapes != {name: value.shape for name, value in content["agent"].items()}:
        raise UserError(f"{path} holds an agent of other parts; make this one with the same parts as that")
    agent.load_state_dict(content["agent"])
    if content["optimizer"] is not None:
        agent.optimizer.load_state_dict(content["optimizer"])
    if content["random"]["device"] == agent.generator.device.type:  # another kind of device counts otherwise
        agent.generator.set_state(content["random"]["state"])


def load_training(path: str | Path) -> dict[str, Any]:
    """What :func:`save` was given as ``training``."""
    return _read(path, (TRAINING,))[1]["training"]


# -------------------------------------------------------------------------------- a training that is cut short


def training_state(trainer: Any) -> dict[str, Any]:
    """What decides, beside the agent, how a training goes on."""
    progress, state, pending = trainer.progress, trainer.state, trainer.pending
    keys = pending[0] if pending else ()
    return {
        "env": trainer.envs.source if isinstance(trainer.envs.source, str) else None, "seed": trainer.seed,
        "log_every": trainer.log_every, "save_every": trainer.save_every, "total_steps": progress.total_steps,
        "progress": {name: getattr(progress, name) for name in PROGRESS},
        "ratio": trainer.ratio.previous, "replay": trainer.replay.state_dict(),
        "envs": trainer.envs.state_dict(), "record": trainer.record,
        "state": None if state is None else [*state.latent, state.action],
        "episodes": [trainer.episodes.returns, trainer.episodes.lengths],
        "pending": {key: torch.stack([metrics[key] for metrics in pending]) for key in keys},
        "average": trainer.average,
    }  # fmt: skip


PROGRESS = ("steps", "updates", "cpu_s", "wall_s", "episodes", "log")


def restore_training(trainer: Any, state: dict[str, Any]) -> None:
    """Inverse of :func:`training_state`. Environments that cannot give their state begin a new episode."""
    progress = trainer.progress
    for name in PROGRESS:
        setattr(progress, name, state["progress"][name])
    progress.episodes = [tuple(episode) for episode in progress.episodes]
    trainer.ratio.previous = state["ratio"]
    trainer.replay.load_state_dict(state["replay"])
    trainer.record = {key: values.copy() for key, values in state["record"].items()}
    trainer.episodes.returns, trainer.episodes.lengths = (values.copy() for values in state["episodes"])
    for i in trainer.envs.load_state_dict(state["envs"]):
        trainer.episodes.returns[i] = trainer.episodes.lengths[i] = 0
        for key, value in trainer.envs.begin(i).items():
            trainer.record[key][i] = value
    trainer.envs.last = [
        {key: values[i] for key, values in trainer.record.items()} for i in range(trainer.envs.num_envs)
    ]
    if state["state"] is not None:
        trainer.set_state(*(tensor.to(trainer.agent.device) for tensor in state["state"]))
    rows = zip(*state["pending"].values(), strict=True)
    trainer.pending = [dict(zip(state["pending"], values, strict=True)) for values in rows]
    trainer.average = [tensor.to(trainer.agent.device) for tensor in state["average"]]
    trainer.saved = progress.steps


def make_folder(path: str | Path) -> Path:
    """Make a folder, or raise UserError saying why it cannot be made."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}; name another one") from None
    return folder


def set_aside(folder: Path) -> None:
    """Move the files of an earlier training in a folder to ``earlier-1``, ``earlier-2``, ... beside them."""
    old = [folder / name for name in ("log.jsonl", TRAINING_FILE, AGENT_FILE) if (folder / name).exists()]
    if not old:
        return
    place = next(p for p in (folder / f"earlier-{n}" for n in itertools.count(1)) if not p.exists())
    try:
        place.mkdir()
        for path in old:
            path.rename(place / path.name)
    except OSError as error:
        raise UserError(f"cannot move the earlier training in {folder} to {place.name}: {error.strerror}") from None


# ----------------------------------------------------------------------------------------------------- files


def _read(path: str | Path, formats: tuple[str, ...], tensors: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and content of a checkpoint, or UserError saying what is wrong with the file."""
    if not Path(path).is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118  no dict
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is damaged or no checkpoint: {error}") from None
    if header.get("format") not in formats:
        raise UserError(f"{path} is a safetensors file, but no {' or '.join(formats)}")
    if header["version"] != VERSION:
        raise UserError(f"{path} is of version {header['version']}, and this package reads version {VERSION}")
    return header, _unpack(header["content"], found) if tensors else {}


def _pack(value: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """A tree of dicts, lists and plain values as JSON can hold it; its tensors and arrays go to ``tensors``."""
    if isinstance(value, (Tensor, np.ndarray)):
        tensors[path] = torch.as_tensor(value).detach().cpu().contiguous()
        return {"tensor" if isinstance(value, Tensor) else "array": path}
    if isinstance(value, dict):
        return {"dict": [[key, _pack(entry, tensors, f"{path}/{key}")] for key, entry in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_pack(entry, tensors, f"{path}/{i}") for i, entry in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Inverse of :func:`_pack`; tuples come back as lists."""
    if isinstance(value, list):
        return [_unpack(entry, tensors) for entry in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "dict":
        return {key: _unpack(entry, tensors) for key, entry in inner}
    return tensors[inner] if kind == "tensor" else tensors[inner].numpy()


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """A space as plain values, for checkpoints. Inverse: :func:`space_from_json`."""
    kind = type(space).__name__
    if isinstance(space, spaces.Dict):
        return {"kind": kind, "entries": {key: space_to_json(entry) for key, entry in space.items()}}
    if isinstance(space, spaces.Box):
        low, high = (b.flat[0].item() if (b == b.flat[0]).all() else b.tolist() for b in (space.low, space.high))
        return {"kind": kind, "low": low, "high": high, "shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"kind": kind, "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": kind, "nvec": space.nvec.tolist(), "start": np.asarray(space.start).tolist()}
    return {"kind": kind, "n": space.n if isinstance(space.n, int) else list(space.n)}


def space_from_json(values: dict[str, Any]) -> spaces.Space:
    """The space that :func:`space_to_json` described."""
    kind = values["kind"]
    if kind == "Dict":
        return spaces.Dict({key: space_from_json(entry) for key, entry in values["entries"].items()})
    if kind == "Box":
        dtype = np.dtype(values["dtype"])
        shape = tuple(values["shape"])
        low, high = (np.broadcast_to(np.asarray(values[k], dtype), shape) for k in ("low", "high"))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(values["n"], start=values["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(np.array(values["nvec"]), start=np.array(values["start"]))
    return spaces.MultiBinary(values["n"])
