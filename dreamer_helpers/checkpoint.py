"""Checkpoints: tensors and a JSON header in safetensors files. No code is stored, so none can be run by loading.

An *agent* file holds what acts and learns: parameters, optimiser, normaliser. A *training* file holds an agent and
everything else that decides how its training goes on: environments, random numbers, counters, and of the replay the
latents, which updates refresh, and the newest records. All older records stay as they were added and are kept in
*chunks*, files of their own in the folder ``replay`` beside it, each written once and deleted when its last record has
left the replay. The training file names the chunks that belong to it, with checksums.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from dreamer_helpers import tensorfile
from dreamer_helpers.config import Config
from dreamer_helpers.errors import UserError
from dreamer_helpers.replay import LATENTS, Record, Replay, places
from dreamer_helpers.tensorfile import Outline, TensorFile

logger = logging.getLogger("dreamer_helpers")

AGENT, TRAINING, CHUNK = "dreamer-helpers agent", "dreamer-helpers training", "dreamer-helpers replay"
VERSION = 4
TRAINING_FILE, AGENT_FILE, REPLAY_FOLDER = "training.safetensors", "agent.safetensors", "replay"
CHUNK_STEPS = 4096
"""Steps, of all environments together, in a chunk of the replay: 16 MB for frames of 32 x 32 pixels."""


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
    content = {
        "agent": agent.state_dict(), "optimizer": agent.optimizer.state_dict() if optimizer else None,
        "random": {"device": agent.generator.device.type, "state": agent.generator.get_state()}, **(training or {}),
    }  # fmt: skip
    header = {
        "format": AGENT if training is None else TRAINING, "version": VERSION, "config": agent.config.to_dict(),
        "parts": agent.foreign, "spaces": [space_to_json(space) for space in agent.spaces],
        "content": {key: tensorfile.pack(value, tensors, key) for key, value in content.items()},
    }  # fmt: skip
    tensorfile.write(Path(path), tensors, header)


class Checkpoint:
    """An agent or a training that is open for reading: ``with Checkpoint(path) as stored: stored["seed"]``.

    Its header is read at once, tensors only when they are asked for. Raises UserError if the file is absent, damaged,
    of another version or of another format than ``formats``.
    """

    def __init__(self, path: str | Path, formats: Sequence[str] = (AGENT, TRAINING)):
        self.path = Path(path)
        self.file = TensorFile(path)
        try:
            header = check_header(self.file, formats)
            self.config = Config.from_dict(header["config"])
            self.spaces = tuple(space_from_json(space) for space in header["spaces"])
            self.parts, self.content = dict(header["parts"]), dict(header["content"])
        except (KeyError, TypeError, ValueError) as error:
            self.close()
            raise UserError(f"{path} is damaged: its header lacks or spoils {error}") from None
        except UserError:
            self.close()
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getitem__(self, key: str) -> Any:
        """What :func:`save` was given under this name."""
        return tensorfile.unpack(self._packed(key), self.file.read)

    def outline(self, key: str) -> Any:
        """The same, with an ``Outline`` in place of each tensor and array."""
        return tensorfile.unpack(self._packed(key), self.file.outline)

    def _packed(self, key: str) -> Any:
        if key not in self.content:
            raise UserError(f"{self.path} has no {key}: it is damaged or of another kind")
        return self.content[key]

    def close(self) -> None:
        """Close the file. It can be closed more than once."""
        self.file.close()


def check_header(file: TensorFile, formats: Sequence[str]) -> dict[str, Any]:
    """The header, or UserError if the file is of another format or version."""
    header = file.header
    if not isinstance(header, dict) or header.get("format") not in formats:
        raise UserError(f"{file.path} is a safetensors file, but no {' or '.join(formats)}")
    if header["version"] != VERSION:
        raise UserError(f"{file.path} is of version {header['version']}, and this package reads version {VERSION}")
    return header


def describe(path: str | Path) -> tuple[Config, spaces.Space, spaces.Space]:
    """The configuration, observation space and action space that a checkpoint was made for."""
    with Checkpoint(path) as stored:
        return stored.config, *stored.spaces


# ----------------------------------------------------------------------------------------------- into an agent


def load_into(source: str | Path | Checkpoint, agent: Agent) -> None:
    """Take over everything of the agent in a file, after checking that it belongs to this task and configuration.

    Raises UserError, with the agent as it was, unless everything fits.
    """
    if not isinstance(source, Checkpoint):
        with Checkpoint(source) as stored:
            load_into(stored, agent)
        return
    check_same_kind(source, agent)
    check_optimizer(source, agent)
    state, optimizer, random = source["agent"], source["optimizer"], source["random"]
    check_random(source, random, agent)
    if optimizer is not None:
        try:  # before the parameters: one of a learner's may refuse for reasons of its own
            agent.optimizer.load_state_dict(optimizer)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise other_optimizer(source, str(error)) from None
    agent.load_state_dict(state)
    if random["device"] == agent.generator.device.type:  # another kind of device counts otherwise
        agent.generator.set_state(random["state"])


def check_same_kind(stored: Checkpoint, agent: Agent) -> None:
    """Raise UserError unless a file is of an agent with this task, configuration, parts and parameters."""
    path = stored.path
    if [space_to_json(space) for space in stored.spaces] != [space_to_json(space) for space in agent.spaces]:
        raise UserError(f"{path} was trained on another task: its observation or action space differs")
    theirs, own = stored.config.to_dict(), agent.config.to_dict()
    if different := [name for name in own if theirs[name] != own[name]]:
        raise UserError(
            f"{path} has another configuration ({', '.join(different[:5])}); "
            "DreamerV3.from_checkpoint makes an agent that fits"
        )
    if set(stored.parts) != set(agent.foreign):
        theirs, ours = (", ".join(sorted(parts)) or "none" for parts in (stored.parts, agent.foreign))
        both, same = f"({theirs}; this one's: {ours})", "give the same parts, such as parts=Parts.from_passport()"
        if stored.parts:
            raise UserError(f"{path} holds an agent whose parts are not all the package's own {both}; {same}")
        raise UserError(f"{path} holds an agent of the package's own parts {both}; make this one of those alone")
    for slot, name in stored.parts.items():
        if agent.foreign[slot] != name:
            logger.warning("%s was made with %s for %s, and this agent has %s", path, name, slot, agent.foreign[slot])
    if shapes(agent.state_dict()) != shapes(stored.outline("agent")):
        raise UserError(f"{path} holds an agent of other parts; make this one with the same parts as that")


def check_optimizer(stored: Checkpoint, agent: Agent) -> None:
    """Raise UserError unless the state of the optimiser in a file, if there is one, fits the agent's.

    An optimiser may have no state before its first step.
    """
    theirs, own = stored.outline("optimizer"), agent.optimizer.state_dict()
    if theirs is None:
        return
    groups = [[(set(group), len(group["params"])) for group in state["param_groups"]] for state in (theirs, own)]
    if groups[0] != groups[1]:
        raise other_optimizer(stored, "its groups of parameters or their settings differ")
    parameters = [p for group in agent.optimizer.param_groups for p in group["params"]]
    for index, state in theirs["state"].items():
        fits = index in range(len(parameters)) and all(
            shape in (None, (), tuple(parameters[index].shape)) for shape in shapes(state).values()
        )
        if not fits or (index in own["state"] and shapes(state) != shapes(own["state"][index])):
            raise other_optimizer(stored, f"what it keeps of parameter {index} differs")


def other_optimizer(stored: Checkpoint, why: str) -> UserError:
    """The line that says so."""
    return UserError(f"{stored.path} holds the state of another optimizer ({why}); make the agent with the same one")


def shapes(tree: dict[str, Any]) -> dict[str, tuple[int, ...] | None]:
    """The shapes of the tensors or outlines of a dict, by name; None for what is neither."""
    return {k: tuple(v.shape) if isinstance(v, (Tensor, Outline)) else None for k, v in tree.items()}


def check_random(stored: Checkpoint, random: dict[str, Any], agent: Agent) -> None:
    """Raise UserError if the state of the random numbers in a file is not one that the agent's generator can have."""
    if random["device"] != agent.generator.device.type:
        return
    try:
        torch.Generator(agent.generator.device).set_state(random["state"])
    except (RuntimeError, TypeError) as error:
        raise UserError(f"{stored.path} is damaged: its random numbers have no valid state ({error})") from None


# -------------------------------------------------------------------------------- a training that is cut short


def save_training(folder: Path, trainer: Any) -> None:
    """Write the training to its folder: first the chunks of the replay that are complete and new, then the rest.

    What is there already stays whole until the new training file has taken its place; then the chunks that only the
    old one needed are deleted. Raises UserError if something cannot be written.
    """
    chunks = write_chunks(folder / REPLAY_FOLDER, trainer.replay, trainer.chunks)
    save(folder / TRAINING_FILE, trainer.agent, training_state(trainer, chunks))
    trainer.chunks = chunks
    needed = {chunk["file"] for chunk in chunks}
    for path in (folder / REPLAY_FOLDER).glob("*.safetensors*"):
        if path.name not in needed:
            with contextlib.suppress(OSError):
                path.unlink()


def training_state(trainer: Any, chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What decides, beside the agent, how a training goes on."""
    progress, state, pending, replay = trainer.progress, trainer.state, trainer.pending, trainer.replay
    keys = pending[0] if pending else ()
    newest = columns(replay, chunks[-1]["last"] if chunks else oldest(replay), replay.count)
    return {
        "env": trainer.envs.source if isinstance(trainer.envs.source, str) else None, "seed": trainer.seed,
        "log_every": trainer.log_every, "save_every": trainer.save_every, "total_steps": progress.total_steps,
        "progress": {name: getattr(progress, name) for name in PROGRESS},
        "ratio": trainer.ratio.previous, "position": replay.position(), "chunks": chunks,
        "newest": {key: np.concatenate(pieces) for key, pieces in newest.items()},
        "latents": {key: replay.data[key][: replay.count] for key in LATENTS if replay.data},
        "envs": trainer.envs.state_dict(), "record": trainer.record,
        "state": None if state is None else [*state.latent, state.action],
        "episodes": [trainer.episodes.returns, trainer.episodes.lengths],
        "pending": {key: torch.stack([metrics[key] for metrics in pending]) for key in keys},
        "average": trainer.average,
    }  # fmt: skip


PROGRESS = ("steps", "updates", "cpu_s", "wall_s", "episodes", "log")


def restore_training(trainer: Any, stored: Checkpoint) -> None:
    """Inverse of :func:`save_training`, but for the agent. Environments that cannot give their state begin a new
    episode. The records of the replay go from the files to their places, without a second copy in memory."""
    progress = trainer.progress
    for name, value in stored["progress"].items():
        setattr(progress, name, value)
    progress.episodes = [tuple(episode) for episode in progress.episodes]
    trainer.ratio.previous, trainer.chunks = stored["ratio"], stored["chunks"]
    trainer.replay.go_on_from(stored["position"], like_stored(stored))
    read_records(stored, trainer.replay.data)
    trainer.record = {key: values.copy() for key, values in stored["record"].items()}
    trainer.episodes.returns, trainer.episodes.lengths = (values.copy() for values in stored["episodes"])
    for i in trainer.envs.load_state_dict(stored["envs"]):
        trainer.episodes.returns[i] = trainer.episodes.lengths[i] = 0
        for key, value in trainer.envs.begin(i).items():
            trainer.record[key][i] = value
    trainer.envs.last = [
        {key: values[i] for key, values in trainer.record.items()} for i in range(trainer.envs.num_envs)
    ]
    if stored["state"] is not None:
        trainer.set_state(*(tensor.to(trainer.agent.device) for tensor in stored["state"]))
    pending = stored["pending"]
    trainer.pending = [dict(zip(pending, values, strict=True)) for values in zip(*pending.values(), strict=True)]
    trainer.average = [tensor.to(trainer.agent.device) for tensor in stored["average"]]
    trainer.saved = progress.steps


def load_training(path: str | Path) -> dict[str, Any]:
    """A training as one dict, without the agent; ``replay`` is as ``Replay.state_dict`` gives it."""
    apart = ("agent", "optimizer", "random", "position", "chunks", "newest", "latents")
    with Checkpoint(path, (TRAINING,)) as stored:
        position = stored["position"]
        data = {k: np.zeros((position["used"], *v.shape), v.dtype) for k, v in like_stored(stored).items()}
        read_records(stored, data)
        state = {key: stored[key] for key in stored.content if key not in apart}
    return {**state, "replay": {**position, "data": data}}


# -------------------------------------------------------------------------------------- the replay, in chunks


def oldest(replay: Replay) -> int:
    """Number of the oldest record that the replay still has."""
    return max(0, replay.count - replay.rows)


def columns(replay: Replay, first: int, last: int) -> dict[str, list[np.ndarray]]:
    """The records ``first`` to ``last - 1``, without the latents, in one or two pieces of the ring buffers."""
    rows = places(first, last, replay.rows)
    return {key: [values[at] for at in rows] for key, values in sorted(replay.data.items()) if key not in LATENTS}


def write_chunks(folder: Path, replay: Replay, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write what fills another chunk. Returns the entries of all chunks that the replay needs, oldest first."""
    chunks = [chunk for chunk in known if chunk["last"] > oldest(replay)]
    rows = max(1, CHUNK_STEPS // replay.num_envs)
    first = chunks[-1]["last"] if chunks else oldest(replay)
    while replay.count - first >= rows:
        chunks.append(write_chunk(make_folder(folder), replay, first, first + rows))
        first += rows
    return chunks


def write_chunk(folder: Path, replay: Replay, first: int, last: int) -> dict[str, Any]:
    """Write one chunk. Returns the entry that names it in the training file."""
    name = f"{first:09}.safetensors"
    pieces = columns(replay, first, last)
    tensors = {key: torch.as_tensor(np.concatenate(parts)) for key, parts in pieces.items()}
    tensorfile.write(folder / name, tensors, {"format": CHUNK, "version": VERSION})
    return {"file": name, "first": first, "last": last, "checksum": checksum(pieces)}


def checksum(pieces: dict[str, list[np.ndarray]]) -> int:
    """CRC-32 of columns, in their order."""
    value = 0
    for piece in itertools.chain.from_iterable(pieces.values()):
        value = zlib.crc32(tensorfile.flat(piece), value)
    return value


def like_stored(stored: Checkpoint) -> Record:
    """A record (N, ...) with the shapes and dtypes of the stored ones, and no values."""
    outlines = stored.outline("newest") | stored.outline("latents")
    return {key: torch.empty(outline.shape[1:], dtype=outline.dtype).numpy() for key, outline in outlines.items()}


def read_records(stored: Checkpoint, data: Record) -> None:
    """Read all stored records into ring buffers (rows, N, ...). Raises UserError if a chunk is missing or damaged.

    Chunks come in the order of their records, so that newer ones overwrite what has left the replay since.
    """
    position, chunks = stored["position"], stored["chunks"]
    for key in stored.outline("latents"):
        stored.file.read_into(f"latents/{key}", [data[key][: position["used"]]])
    rows = len(next(iter(data.values()), ()))
    kept = [key for key in sorted(data) if key not in LATENTS]
    for chunk in chunks:
        pieces = {key: [data[key][at] for at in places(chunk["first"], chunk["last"], rows)] for key in kept}
        read_chunk(stored.path.parent / REPLAY_FOLDER / chunk["file"], pieces, chunk["checksum"])
    first = chunks[-1]["last"] if chunks else position["count"] - position["used"]
    for key in kept:
        stored.file.read_into(f"newest/{key}", [data[key][at] for at in places(first, position["count"], rows)])


def read_chunk(path: Path, pieces: dict[str, list[np.ndarray]], expected: int) -> None:
    """Fill pieces of the ring buffers with a chunk. Raises UserError unless it is what was written."""
    if not path.is_file():
        raise UserError(f"{path}, a part of the replay, is missing: bring it back, or begin another training")
    file = TensorFile(path)
    try:
        check_header(file, (CHUNK,))
        for key, parts in pieces.items():
            file.read_into(key, parts)
    finally:
        file.close()
    if checksum(pieces) != expected:
        raise UserError(f"{path}, a part of the replay, is damaged or of another training: begin another training")


# ----------------------------------------------------------------------------------------------------- folders


def make_folder(path: str | Path) -> Path:
    """Make a folder, or raise UserError saying why it cannot be made."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}; name another one") from None
    return folder


def set_aside(folder: Path) -> None:
    """Move the files of an earlier training in a folder to ``earlier-1``, ``earlier-2``, ... beside them.

    The chunks of its replay are in both places while its training file moves, so that it is whole at any moment.
    """
    names, replay = (TRAINING_FILE, AGENT_FILE, "log.jsonl"), folder / REPLAY_FOLDER
    old = [folder / name for name in names if (folder / name).exists()]
    if not old and not replay.exists():
        return
    place = next(p for p in (folder / f"earlier-{n}" for n in itertools.count(1)) if not p.exists())
    try:
        place.mkdir()
        if replay.exists():
            shutil.copytree(replay, place / REPLAY_FOLDER, copy_function=link)
        for path in old:
            path.rename(place / path.name)
        if replay.exists():
            shutil.rmtree(replay)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"cannot move the earlier training in {folder} to {place.name}: {why}") from None


def link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


# ------------------------------------------------------------------------------------------------------ spaces


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
