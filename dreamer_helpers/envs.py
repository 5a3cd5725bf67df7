"""Any Gymnasium environment, one convention for observations, actions and time.

A *record* is what stands at one step: the canonical observation, and ``reward``, ``is_first``, ``is_last``,
``is_terminal``, which arrive with the observation that they are the consequence of. ``is_last`` ends an episode,
``is_terminal`` says that it ended by itself and not by a time limit. After a last record comes the first one of the
next episode, with reward 0. Source: code, embodied/core/driver.py.

A canonical observation is a flat dictionary of images uint8 (H, W, C), vectors float32 (n,) and discrete entries
int64 (k,). Actions in *model form* are float32 (A,): one-hot for discrete spaces, in [-1, 1] for boxes.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from dreamer_helpers.errors import UserError, did_you_mean

Record = dict[str, np.ndarray]
EnvSource = str | Callable[[], gym.Env]

logger = logging.getLogger("dreamer_helpers")

RESERVED = (
    "reward", "is_first", "is_last", "is_terminal", "action", "deter", "stoch", "index", "prev_action",
    "dyn", "rep", "continue", "actor", "critic", "replay_critic",  # losses, which are named as the entries are
)  # fmt: skip
for name in ("TMaze", "Catch", "Orchard"):  # the course's own, loaded when one is made
    gym.register(f"dreamer_helpers/{name}-v0", f"dreamer_helpers.worlds:{name}")

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
        exact = 2.0**53 if np.issubdtype(space.dtype, np.integer) else np.inf  # what int64 gives in place of infinity
        if not max(np.abs(bound.astype(np.float64)).max() for bound in (space.low, space.high)) < exact:
            raise UserError("a Box of actions needs finite bounds; wrap the environment to give it some")
        return cls(space, False, (int(np.prod(space.shape)),))

    @property
    def dim(self) -> int:
        """Length A of an action in model form."""
        return sum(self.sizes)

    def encode(self, action: Any) -> np.ndarray:
        """What the environment takes -> model form: (...) -> float32 (..., A)."""
        values, shape = np.asarray(action), self.space.shape
        lead = values.shape[: values.ndim - len(shape)]
        if self.discrete:
            parts = (values.astype(np.int64) - self._start).reshape(*lead, -1)
            hots = [np.eye(n, dtype=np.float32)[parts[..., i]] for i, n in enumerate(self.sizes)]
            return np.concatenate(hots, -1)
        low, width = self._range
        share = np.divide(values - low, width, out=np.full(values.shape, 0.5), where=width > 0)
        return (2.0 * share - 1.0).reshape(*lead, -1).astype(np.float32)

    def decode(self, vector: np.ndarray) -> Any:
        """Model form -> what the environment takes: (..., A) -> (...).

        Continuous values are clipped first, and rounded to the nearest for a box of integers.
        """
        lead = vector.shape[:-1]
        if self.discrete:
            ends = np.cumsum(self.sizes)[:-1]
            choices = np.stack([part.argmax(-1) for part in np.split(vector, ends, -1)], -1)
            return (choices.reshape(lead + self.space.shape) + self._start).astype(self.space.dtype)
        low, width = self._range
        share = (np.clip(vector, -1.0, 1.0).astype(np.float64).reshape(lead + self.space.shape) + 1.0) / 2.0
        values = low + share * width
        whole = not np.issubdtype(self.space.dtype, np.floating)
        return (np.rint(values) if whole else values).astype(self.space.dtype)

    @property
    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower bounds of a box and its widths, in float64, where neither int8 nor float32 overflows."""
        low, high = self.space.low.astype(np.float64), self.space.high.astype(np.float64)
        return low, high - low

    @property
    def _start(self) -> Any:
        return np.asarray(getattr(self.space, "start", 0), np.int64)


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


TAKEN: dict[int, gym.Env] = {}
"""The worlds that trainings go on in, each by the identity of its innermost environment."""


def world_of_its_own(env: EnvSource) -> EnvSource:
    """What makes another world like the one of a training, for whoever looks on. Raises UserError for an object."""
    if isinstance(env, gym.Env):
        raise UserError("this environment is one object; give a function or an id to see dreams")
    return env


class VectorEnv:
    """N copies of an environment, stepped in lockstep in this process. Records have a leading axis N.

    A plain loop, and not Gymnasium's, so that each observation is brought into canonical form where it arises and
    an error names its environment and step. Copy i is seeded once, from ``seed`` and i. With ``every_start``, the
    episodes of all copies together go round the starts 0, 1, 2, ... of a world that has numbered ones (``STARTS``).

    A copy that crashes, or gives what is no finite number of the right shape, ends its episode there with a warning
    (a cut, not a terminal) and is made anew; one that does so ``CRASHES`` episodes in a row is a UserError.
    Raises UserError for an object where there should be several, or that a training goes on in.
    """

    CRASHES = 3

    def __init__(self, env: EnvSource, num_envs: int, seed: int = 0, every_start: bool = False):
        if isinstance(env, gym.Env) and num_envs > 1:
            raise UserError("to train on several copies, give the id or a function that makes the environment")
        self.name = env if isinstance(env, str) else getattr(env, "__name__", type(env).__name__)
        self.source, self.seed = env, seed
        self.envs = [make(env) for _ in range(num_envs)]
        worlds = {id(world.unwrapped) for world in self.envs}
        if len(worlds) < num_envs or worlds & set(TAKEN):
            raise UserError(
                f"{self.name}: this environment is one object, and something plays in it already; give an id or a "
                "function that makes a new one at each call"
            )
        self.num_envs = num_envs
        self.observation_space, self.action_space = self.envs[0].observation_space, self.envs[0].action_space
        self.canonical_space = canonical_space(self.observation_space)
        self.actions = ActionSpec.of(self.action_space)
        self.seeds: list[int | None] = [int(s) for s in np.random.SeedSequence(seed).generate_state(num_envs)]
        self.starts = [itertools.count(i, num_envs) for i in range(num_envs)] if every_start else None
        self.over = np.ones(num_envs, bool)  # episodes that ended with the last record
        self.crashes = [0] * num_envs  # episodes in a row that ended so
        self.last: list[Record] = [{}] * num_envs
        self.steps = 0

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Meanwhile nobody else gets into these worlds: to hand one of them to another VectorEnv is a UserError."""
        mine = {id(env.unwrapped): env for env in self.envs}
        TAKEN.update(mine)
        try:
            yield
        finally:
            for key in mine:
                TAKEN.pop(key, None)

    def reset(self) -> Record:
        """Begin new episodes everywhere: the first record."""
        self.over[:] = True
        return self.step(np.zeros((self.num_envs, self.actions.dim), np.float32))

    def step(self, actions: np.ndarray) -> Record:
        """Act (N, A) in every environment; those whose episode is over begin a new one instead."""
        decoded = self.actions.decode(np.asarray(actions))
        self.last = [self.begin(i) if self.over[i] else self._advance(i, decoded[i]) for i in range(self.num_envs)]
        record = {key: np.stack([row[key] for row in self.last]) for key in self.last[0]}
        self.over = record["is_last"].copy()
        self.steps += 1
        return record

    def begin(self, i: int) -> Record:
        """Begin a new episode in copy i: its first record, without the leading axis."""
        options = {"start": next(self.starts[i]) % self.envs[i].unwrapped.STARTS} if self.starts else None
        for _ in range(self.CRASHES):
            seed, self.seeds[i] = self.seeds[i], None
            try:
                obs, _ = self.envs[i].reset(seed=seed, options=options)
                return self._record(obs, 0.0, is_first=True)
            except Exception as error:
                self._crashed(i, error)
        raise AssertionError("not reached: _crashed raises")

    def _advance(self, i: int, action: Any) -> Record:
        try:
            obs, reward, terminated, truncated, _ = self.envs[i].step(action)
            record = self._record(obs, reward, is_last=terminated or truncated, is_terminal=terminated)
        except Exception as error:
            self._crashed(i, error)
            cut = {"reward": np.float32(0), "is_first": np.bool_(False), "is_last": np.bool_(True)}
            return {**self.last[i], **cut, "is_terminal": np.bool_(False)}
        if record["is_last"]:
            self.crashes[i] = 0
        return record

    def _record(
        self, obs: Any, reward: Any, *, is_first: bool = False, is_last: bool = False, is_terminal: bool = False
    ) -> Record:
        record = canonical_observation(obs, self.observation_space)
        record["reward"] = np.float32(reward)
        for key, value in record.items():
            if value.dtype == np.float32 and not np.isfinite(value).all():
                raise UserError(f"{key} is {value[~np.isfinite(value)].flat[0]}, not a finite number")
            if key != "reward" and value.shape != self.canonical_space[key].shape:
                raise UserError(f"{key} has shape {value.shape}, not {self.canonical_space[key].shape}")
        flags = {"is_first": is_first, "is_last": is_last, "is_terminal": is_terminal}
        return record | {key: np.bool_(flag) for key, flag in flags.items()}

    def _crashed(self, i: int, error: Exception) -> None:
        """Say that copy i crashed, and replace it; raise UserError if it does nothing else."""
        self.crashes[i] += 1
        what = f"{self.name}: copy {i} crashed at step {self.steps} ({type(error).__name__}: {error})"
        if self.crashes[i] >= self.CRASHES:
            raise UserError(f"{what}, the last of {self.CRASHES} episodes in a row; mend the environment") from error
        logger.warning("%s; its episode ends there and a new one begins", what)
        if not isinstance(self.source, gym.Env):
            with contextlib.suppress(Exception):
                self.envs[i].close()
            self.envs[i] = make(self.source)
        self.seeds[i] = int(np.random.SeedSequence([self.seed, i, self.steps]).generate_state(1)[0])

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on; the states of worlds that can give theirs, None for other environments."""
        worlds_ = [env.unwrapped.get_state() if has_state(env) else None for env in self.envs]
        return {
            "steps": self.steps, "over": self.over, "seeds": self.seeds, "crashes": self.crashes, "worlds": worlds_,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> list[int]:
        """Go on from :meth:`state_dict`. Returns the copies whose episode was lost: they need :meth:`begin`."""
        self.steps, self.over, self.seeds = state["steps"], state["over"].copy(), state["seeds"]
        self.crashes = state["crashes"]
        lost = []
        for i, (env, world) in enumerate(zip(self.envs, state["worlds"], strict=True)):
            if world is None:
                self.seeds[i] = int(np.random.SeedSequence([self.seed, i, self.steps]).generate_state(1)[0])
                lost += [] if self.over[i] else [i]
            else:
                env.reset()  # wrappers want to see one
                env.unwrapped.set_state(world)
        return lost

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()


def has_state(env: gym.Env) -> bool:
    """Whether all that decides how an environment goes on can be saved: no wrapper around it keeps any of it."""
    while isinstance(env, (PassiveEnvChecker, OrderEnforcing)):
        env = env.env
    return hasattr(env, "get_state") and hasattr(env, "set_state")


class Episodes:
    """Adds up rewards of N environments and gives the returns of those whose episode just ended."""

    def __init__(self, num_envs: int):
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs, int)

    def add(self, record: dict[str, np.ndarray]) -> list[tuple[int, float, int]]:
        """Take in a record; returns (environment, return, length) of each episode that it ended."""
        self.returns = np.where(record["is_first"], 0.0, self.returns + record["reward"])
        self.lengths = np.where(record["is_first"], 0, self.lengths + 1)
        return [(int(i), float(self.returns[i]), int(self.lengths[i])) for i in np.flatnonzero(record["is_last"])]
