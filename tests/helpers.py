"""What several test modules share: the golden files, and batches made of random numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers.config import Config, preset

GOLDEN_FILES = (
    "symlog", "bins", "twohot", "twohot_v1", "onehot", "kl_balance", "linear", "blocklinear", "rmsnorm",
    "layernorm", "rssm_step", "rssm_observe", "rssm_imagine", "lambda_return", "retnorm", "bounded_normal",
    "heads", "imag_loss_disc", "imag_loss_cont", "repl_loss", "optimizer", "slow_ema", "encoder", "decoder",
    "replay_semantics",
)  # fmt: skip

FORMS = ("readable", "accelerated")
"""How each golden file is compared: with the package's modules as they are, and with their twins."""

AXES = {1: (0,), 2: (1, 0), 3: (0, 1, 2), 4: (3, 2, 0, 1)}
"""Official layout of a kernel, by rank, to PyTorch's: linear (in, out), convolution (H, W, in, out)."""
NAMES = {"weight": "kernel", "bias": "bias", "scale": "scale", "shift": "shift"}
"""Our names of a layer's parameters, and the official ones."""


class GoldenFile:
    """The arrays of one file, as tensors, by key: ``in/..``, ``param/..``, ``out/..``.

    It keeps a list of what nobody has asked for yet, so that a test can show that it left nothing out.
    """

    def __init__(self, path: Path):
        with np.load(path) as file:
            self.arrays = {key: torch.from_numpy(np.array(file[key])) for key in file.files if key != "meta"}
            self.settings = json.loads(str(file["meta"]))["config"]
        self.unread = set(self.arrays)

    def __getitem__(self, key: str) -> Tensor:
        self.unread.discard(key)
        return self.arrays[key]

    def names(self, prefix: str) -> list[str]:
        """What stands under a prefix: the keys that start with it, without it."""
        return [key.removeprefix(prefix) for key in self.arrays if key.startswith(prefix)]

    def compare(self, key: str, actual: Tensor, rtol: float = 1e-4, atol: float | Tensor = 1e-5) -> None:
        """Raise AssertionError unless ``actual`` is ``out/key`` in shape and to atol + rtol |expected|."""
        expected = self[f"out/{key}"]
        assert actual.shape == expected.shape, f"{key}: shape {tuple(actual.shape)}, not {tuple(expected.shape)}"
        actual, expected = actual.detach().double(), expected.double()
        excess = torch.where(actual == expected, 0.0, (actual - expected).abs() - rtol * expected.abs() - atol)
        worst = excess.argmax()
        assert (excess <= 0).all(), f"{key}: {actual.flatten()[worst]:.8g}, not {expected.flatten()[worst]:.8g}"

    def compare_loss(self, key: str, actual: Tensor) -> None:
        """:meth:`compare` with the tolerance of losses and gradients."""
        self.compare(key, actual, rtol=1e-3)

    @torch.no_grad()
    def fill(self, paths: Mapping[nn.Module, str]) -> None:
        """Give layers the official parameters under their paths; none of a layer's own is left over."""
        for layer, path in paths.items():
            for name, parameter in layer.named_parameters():
                value = self[f"param/{path}/{NAMES[name]}".replace("//", "/")]
                value = value.permute(AXES[value.ndim])
                assert value.shape == parameter.shape, f"{path}: {tuple(parameter.shape)}, not {tuple(value.shape)}"
                parameter.copy_(value)


class GoldenFolder:
    """The folder of all files; knows which were asked for, and which were compared to the end, in which form."""

    def __init__(self, path: Path):
        self.path, self.asked, self.compared = path, set[str](), set[tuple[str, str]]()

    def open(self, name: str) -> GoldenFile:
        """One file by its name. A missing one is a failure (AssertionError), not a skipped comparison."""
        self.asked.add(name)
        path = self.path / f"{name}.npz"
        assert path.is_file(), f"golden file {path} is missing; --golden names the folder of all {len(GOLDEN_FILES)}"
        return GoldenFile(path)


TINY = preset(
    "cpu", rnn_hidden_dim=16, blocks=2, hidden_dim=16, num_categoricals=4, num_categories=4, cnn_depth=2, batch_size=4,
    seq_len=4, imagination_horizon=3, imagination_last=0, num_envs=4, train_ratio=4.0, replay_capacity=1000,
)  # fmt: skip
"""The cpu preset at a size that trains hundreds of steps in a second."""


def make_batch(config: Config, observation_space: spaces.Dict, action_space: gymnasium.Space, seed: int = 0) -> dict:
    """A batch as replay gives it, of random numbers: tensors (B, T + 1, ...). The spaces must be canonical.

    Some steps begin an episode, some end one, and some of these are deaths.
    """
    rng = np.random.default_rng(seed)
    shape = (config.batch_size, config.seq_len + 1)
    is_first = rng.random(shape) < 0.2
    is_first[:, 0] = True
    is_last = np.roll(is_first, -1, 1)
    batch = {key: _random_entry(rng, space, shape) for key, space in observation_space.items()}
    batch |= {
        "reward": rng.normal(size=shape).astype(np.float32), "is_first": is_first, "is_last": is_last,
        "is_terminal": is_last & (rng.random(shape) < 0.5),
        "action": _random_actions(rng, action_space, shape),
        "deter": rng.normal(size=(*shape, config.rnn_hidden_dim)).astype(np.float32),
        "stoch": rng.integers(config.num_categories, size=(*shape, config.num_categoricals), dtype=np.int16),
    }  # fmt: skip
    return {key: torch.from_numpy(value) for key, value in batch.items()}


def _random_entry(rng: np.random.Generator, space: gymnasium.Space, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(space, spaces.MultiDiscrete):
        return rng.integers(space.nvec, size=(*shape, len(space.nvec)))
    if space.dtype == np.uint8:
        return rng.integers(256, size=(*shape, *space.shape), dtype=np.uint8)
    return rng.normal(size=(*shape, *space.shape)).astype(np.float32)


def _random_actions(rng: np.random.Generator, space: gymnasium.Space, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(space, spaces.Box):
        return rng.uniform(-1, 1, size=(*shape, math.prod(space.shape))).astype(np.float32)
    sizes = [space.n] if isinstance(space, spaces.Discrete) else space.nvec.tolist()
    return np.concatenate([np.eye(n, dtype=np.float32)[rng.integers(n, size=shape)] for n in sizes], -1)


def slow(*values: Any, **options: Any) -> Any:
    """A case of a parametrized test that ``make check`` leaves out, as another one stands for it."""
    return pytest.param(*values, marks=pytest.mark.slow, **options)


class Bare(nn.Module):
    """A cell as one writes it first: it knows nothing of tuning."""

    def __init__(self, deter: int, stoch: int, action: int, units: int, blocks: int, norm: Callable[..., nn.Module]):
        super().__init__()
        self.gru = nn.GRUCell(stoch + action, deter)

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        return self.gru(torch.cat([stoch, action], -1), deter)


def height_of(work: Callable[[], Any]) -> int:
    """The most bytes that are allocated at any time while ``work`` runs, beyond those at its start."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    now = highest = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            highest = max(highest, now)
    return highest


def restart() -> None:
    """What a kernel forgets when it is started again: whose parts it has met, and what it took from the passport."""
    from dreamer_helpers.course import exercises, own_parts

    for memory in (
        exercises.STATES,
        exercises.HINTS_SEEN,
        exercises.TAKEN,
        exercises.KEPT,
        exercises.OPENED,
        own_parts.SHOWN,
    ):
        memory.clear()
