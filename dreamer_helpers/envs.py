"""Any Gymnasium environment, one convention for observations, actions and time.

A *record* is what stands at one step: the canonical observation, and ``reward``, ``is_first``, ``is_last``,
``is_terminal``, which arrive with the observation that they are the consequence of. ``is_last`` ends an episode,
``is_terminal`` says that it ended by itself and not by a time limit. After a last record comes the first one of the
next episode, with reward 0. Source: code, embodied/core/driver.py.

A canonical observation is a flat dictionary of images uint8 (H, W, C), vectors float32 (n,) and discrete entries
int64 (k,). Actions in *model form* are float32 (A,): one-hot for discrete spaces, in [-1, 1] for boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from dreamer_helpers import worlds  # noqa: F401  registers the course's own worlds
from dreamer_helpers.errors import UserError, did_you_mean

Record = dict[str, np.ndarray]
EnvSource = str | Callable[[], gym.Env]

RESERVED = ("reward", "is_first", "is_last", "is_terminal", "action", "deter", "stoch", "index", "prev_action")
SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary and Dict of these"


# --------------------------------------------------------------------------------------------- observations


def canonical_space(space: spaces.Space) -> spaces.Dict:
    """The flat dictionary space that observations of ``space`` are brought into.

    Raises UserError for an entry of another kind, or one with a reserved name.
    """
    entries = {name: _canonical_entry(name, entry) for name, entry in _flatten(space).items()}
    for name in entries:
        if name in RESERVED:
            raise UserError(f"observation entry {name!r}: the name is reserved; rename it in a wrapper")
    return spaces.Dict(entries)


def canonical_observation(obs: Any, space: spaces.Space) -> Record:
    """One observation of ``space`` in canonical form: {key: array}."""
    if isinstance(space, spaces.Dict):
        flat: Record = {}
        for key, entry in space.items():
            inner = canonical_observation(obs[key], entry)
            nested = isinstance(entry, spaces.Dict)
            flat |= {f"{key}/{name}" if nested else key: value for name, value in inner.items()}
        return flat
    return {_default_name(space): _canonical_value(np.asarray(obs), space)}


def _flatten(space: spaces.Space, prefix: str = "") -> dict[str, spaces.Space]:
    if not isinstance(space, spaces.Dict):
        return {prefix or _default_name(space): space}
    flat: dict[str, spaces.Space] = {}
    for key, entry in space.items():
        flat |= _flatten(entry, f"{prefix}/{key}" if prefix else str(key))
    return flat


def _default_name(space: spaces.Space) -> str:
    if not isinstance(space, spaces.Box):
        return "discrete"
    return "image" if _image_shape(space) else "vector"


def _image_shape(space: spaces.Space) -> tuple[int, int, int] | None:
    """(H, W, C) if the space is an image, else None."""
    if not isinstance(space, spaces.Box):
        return None
    bounded = np.all(space.low == 0) and (np.all(space.high == 1) or np.all(space.high == 255))
    if not (space.dtype == np.uint8 and len(space.shape) in (2, 3)) and not (len(space.shape) == 3 and bounded):
        return None
    if len(space.shape) == 2:
        return (*space.shape, 1)
    return space.shape[1:] + space.shape[:1] if _channels_first(space) else space.shape


def _channels_first(space: spaces.Box) -> bool:
    channels = (1, 3, 4)
    return len(space.shape) == 3 and space.shape[0] in channels and space.shape[2] not in channels


def _canonical_entry(name: str, space: spaces.Space) -> spaces.Space:
    if shape := _image_shape(space):
        return spaces.Box(0, 255, shape, np.uint8)
    if isinstance(space, spaces.Box):
        return spaces.Box(-np.inf, np.inf, (int(np.prod(space.shape)),), np.float32)
    if isinstance(space, spaces.Discrete):
        return spaces.MultiDiscrete([space.n])
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.MultiDiscrete(space.nvec.flatten())
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiDiscrete(np.full(int(np.prod(space.shape)), 2))
    raise UserError(f"observation entry {name!r} is a {type(space).__name__}; supported are {SUPPORTED}")


def _canonical_value(value: np.ndarray, space: spaces.Space) -> np.ndarray:
    if shape := _image_shape(space):
        if space.dtype != np.uint8:  # floats in [0, 1] or [0, 255]
            value = np.rint(value * (255.0 / space.high.flat[0])).astype(np.uint8)
        return value.transpose(1, 2, 0) if _channels_first(space) else value.reshape(shape)
    if isinstance(space, spaces.Box):
        return value.astype(np.float32).reshape(-1)
    start = getattr(space, "start", 0)
    return (value.astype(np.int64) - start).reshape(-1)


# -------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True)
class ActionSpec:
    """An action space and its model form.

    ``sizes`` holds the choices of each component of a discrete space, or (A,) of a continuous one.
    """

    space: spaces.Space
    discrete: bool
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, space: spaces.Space) -> ActionSpec:
        """The spec of a Discrete, MultiDiscrete or bounded Box space. Raises UserError for another."""
        if isinstance(space, spaces.Discrete):
            return cls(space, True, (int(space.n),))
        if isinstance(space, spaces.MultiDiscrete):
            return cls(space, True, tuple(int(n) for n in space.nvec.flatten()))
        if not isinstance(space, spaces.Box):
            raise UserError(
                f"actions of type {type(space).__name__} are not supported; Discrete, MultiDiscrete and Box are"
            )
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise UserError("a Box of actions needs finite bounds; wrap the environment to give it some")
        return cls(space, False, (int(np.prod(space.shape)),))

    @property
    def dim(self) -> int:
        """Length A of an action in model form."""
        return sum(self.sizes)

    def encode(self, action: Any) -> np.ndarray:
        """What the environment takes -> model form: (...) -> float32 (..., A)."""
        values = np.asarray(action)
        if self.discrete:
            inner = len(self.space.shape)
            parts = values.reshape(*values.shape[: values.ndim - inner], -1) - self._start
            hots = [np.eye(n, dtype=np.float32)[parts[..., i]] for i, n in enumerate(self.sizes)]
            return np.concatenate(hots, -1)
        low, high = self.space.low, self.space.high
        scaled = 2.0 * (values - low) / (high - low) - 1.0
        return scaled.reshape(*values.shape[: values.ndim - len(self.space.shape)], -1).astype(np.float32)

    def decode(self, vector: np.ndarray) -> Any:
        """Model form -> what the environment takes: (..., A) -> (...). Continuous values are clipped first."""
        lead = vector.shape[:-1]
        if self.discrete:
            ends = np.cumsum(self.sizes)[:-1]
            choices = np.stack([part.argmax(-1) for part in np.split(vector, ends, -1)], -1)
            return choices.reshape(lead + self.space.shape).astype(self.space.dtype) + self._start
        low, high = self.space.low, self.space.high
        share = (np.clip(vector, -1.0, 1.0).reshape(lead + self.space.shape) + 1.0) / 2.0
        return (low + share * (high - low)).astype(self.space.dtype)

    @property
    def _start(self) -> Any:
        return getattr(self.space, "start", 0)


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


# --------------------------------------------------------------------------------------------- environments


def make(env: EnvSource, **kwargs: Any) -> gym.Env:
    """Make a Gymnasium environment from its id ("CartPole-v1", "package:Name-v0") or a function that returns one.

    Raises UserError for an unknown id, a missing package, or what is no environment.
    """
    if not isinstance(env, str):
        made = env(**kwargs) if callable(env) else env
        if not isinstance(made, gym.Env):
            raise UserError(f"env must be a Gymnasium id or a function that makes an environment, not {env!r}")
        return made
    try:
        return gym.make(env, **kwargs)
    except (gym.error.NameNotFound, gym.error.NamespaceNotFound, gym.error.VersionNotFound):
        raise UserError(f"no environment {env!r}{did_you_mean(env, gym.registry)}") from None
    except (gym.error.DependencyNotInstalled, ModuleNotFoundError) as error:
        raise UserError(f"environment {env!r} needs a package that is not installed: {error}") from None
    except gym.error.Error as error:
        raise UserError(f"cannot make environment {env!r}: {error}") from None


class VectorEnv:
    """N copies of an environment, stepped in lockstep in this process. Records have a leading axis N.

    A plain loop, and not Gymnasium's, so that each observation is brought into canonical form where it arises and
    an error names its environment and step. Copy i is seeded once, from ``seed`` and i.
    """

    def __init__(self, env: EnvSource, num_envs: int, seed: int = 0):
        if isinstance(env, gym.Env) and num_envs > 1:
            raise UserError("to train on several copies, give the id or a function that makes the environment")
        self.name = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
        self.envs = [make(env) for _ in range(num_envs)]
        self.num_envs = num_envs
        self.observation_space, self.action_space = self.envs[0].observation_space, self.envs[0].action_space
        self.canonical_space = canonical_space(self.observation_space)
        self.actions = ActionSpec.of(self.action_space)
        self.seeds: list[int | None] = [int(s) for s in np.random.SeedSequence(seed).generate_state(num_envs)]
        self.over = np.ones(num_envs, bool)  # episodes that ended with the last record
        self.steps = 0

    def reset(self) -> Record:
        """Begin new episodes everywhere: the first record."""
        self.over[:] = True
        return self.step(np.zeros((self.num_envs, self.actions.dim), np.float32))

    def step(self, actions: np.ndarray) -> Record:
        """Act (N, A) in every environment; those whose episode is over begin a new one instead."""
        decoded = self.actions.decode(np.asarray(actions))
        rows = [self._advance(i, decoded[i]) for i in range(self.num_envs)]
        record = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
        self._check(record)
        self.over = record["is_last"].copy()
        self.steps += 1
        return record

    def _advance(self, i: int, action: Any) -> Record:
        env, first = self.envs[i], self.over[i]
        if first:
            obs, _ = env.reset(seed=self.seeds[i])
            self.seeds[i] = None
            reward, terminated, truncated = 0.0, False, False
        else:
            obs, reward, terminated, truncated, _ = env.step(action)
        record = canonical_observation(obs, self.observation_space)
        record["reward"] = np.float32(reward)
        record["is_first"], record["is_last"] = np.bool_(first), np.bool_(terminated or truncated)
        record["is_terminal"] = np.bool_(terminated)
        return record

    def _check(self, record: Record) -> None:
        for key, values in record.items():
            if values.dtype == np.float32 and not np.isfinite(values).all():
                where = np.argwhere(~np.isfinite(values))[0]
                raise UserError(
                    f"{self.name}: {key} is {values[tuple(where)]} in copy {where[0]} at step {self.steps}; "
                    "observations and rewards must be finite numbers"
                )

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()
