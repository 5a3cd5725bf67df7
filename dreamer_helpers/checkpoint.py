"""Checkpoints: tensors and a JSON header in one safetensors file. No code is stored, so none can be run by loading."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreamer_helpers.config import Config
from dreamer_helpers.envs import space_from_json, space_to_json
from dreamer_helpers.errors import UserError

if TYPE_CHECKING:
    from dreamer_helpers.train import DreamerV3

FORMAT = "dreamer-helpers agent"
VERSION = 1


def save(path: str | Path, agent: DreamerV3) -> None:
    """Write an agent's parameters, optimiser and normaliser, beside the file first, then rename."""
    path = Path(path)
    tensors, optimizer = _flatten(agent.optimizer.state_dict())
    tensors |= {f"agent/{name}": tensor for name, tensor in agent.state_dict().items()}
    header = {
        "format": FORMAT, "version": VERSION, "config": agent.config.to_dict(), "optimizer": optimizer,
        "spaces": [space_to_json(space) for space in agent.spaces],
    }  # fmt: skip
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(
            {k: t.detach().cpu().contiguous() for k, t in tensors.items()}, partial, {"header": json.dumps(header)}
        )
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write the checkpoint {path}: {error}") from None


def describe(path: str | Path) -> tuple[Config, spaces.Space, spaces.Space]:
    """The configuration, observation space and action space that a checkpoint was made for."""
    header = _read(path)[0]
    return Config.from_dict(header["config"]), *(space_from_json(space) for space in header["spaces"])


def load_into(path: str | Path, agent: DreamerV3) -> None:
    """Take over everything from a file, after checking that it belongs to this task and configuration."""
    header, tensors = _read(path)
    if header["spaces"] != [space_to_json(space) for space in agent.spaces]:
        raise UserError(f"{path} was trained on another task: its observation or action space differs")
    stored, own = Config.from_dict(header["config"]).to_dict(), agent.config.to_dict()
    if different := [name for name in own if stored[name] != own[name]]:
        raise UserError(
            f"{path} has another configuration ({', '.join(different[:5])}); "
            "DreamerV3.from_checkpoint makes an agent that fits"
        )
    prefix = "agent/"
    agent.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
    agent.optimizer.load_state_dict(_unflatten(tensors, header["optimizer"]))


def _read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a checkpoint, or UserError saying what is wrong with the file."""
    if not Path(path).is_file():
        raise UserError(f"no checkpoint at {path}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get("header", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is damaged or no checkpoint: {error}") from None
    if header.get("format") != FORMAT:
        raise UserError(f"{path} is a safetensors file, but no checkpoint of this course")
    if header["version"] != VERSION:
        raise UserError(f"{path} is of version {header['version']}, and this package reads version {VERSION}")
    return header, tensors


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's tensors by name, and the rest of its state as plain values."""
    tensors = {
        f"optimizer/{index}/{name}": value for index, entry in state["state"].items()
        for name, value in entry.items() if isinstance(value, Tensor)
    }  # fmt: skip
    return tensors, {"param_groups": state["param_groups"]}


def _unflatten(tensors: dict[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = tensor
    return {"state": state, "param_groups": plain["param_groups"]}
