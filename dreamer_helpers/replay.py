"""Replay: what the agent has lived through, kept in bounded memory and handed out as batches of sequences."""

from __future__ import annotations

import warnings
from collections import deque
from typing import Any

import numpy as np

from dreamer_helpers.errors import UserError

Record = dict[str, np.ndarray]

LATENTS = ("deter", "stoch")
"""The entries of a record that updates refresh. All others stay as they were added."""


class Ratio:
    """How many updates are due, so that ``train_ratio`` steps are replayed for each step of the environment.

    ``batch_steps`` is B * T. Fractions are kept for the next call; the first call gives 1. Source: code,
    elements.when.Ratio; tests/golden/replay_semantics.npz.
    """

    def __init__(self, train_ratio: float, batch_steps: int):
        self.per_step = train_ratio / batch_steps
        self.previous: float | None = None

    def __call__(self, steps: int) -> int:
        """Updates due now that the environments have made so many steps."""
        if self.previous is None:
            self.previous = float(steps)
            return 1
        due = int((steps - self.previous) * self.per_step)
        self.previous += due / self.per_step if due else 0.0
        return due


def annotate(is_first: np.ndarray, is_last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mark where sampled sequences (B, L) begin and break off, both bool.

    The first step of a sequence counts as the first of an episode, and a step before a first one as a last. In training
    the former changes nothing: that step gives the context (``agent.split_context``), and only its state is used.
    Source: code, replay.py, _annotate_batch; tests/golden/replay_semantics.npz.
    """
    first, last = is_first.copy(), is_last.copy()
    first[:, 0] = True
    last[:, :-1] |= is_first[:, 1:]
    return first, last


class Replay:
    """Ring buffers of the records of N environments, ``capacity`` steps in all.

    A sequence has L = seq_len + 1 steps, the first for context, and may cross the ends of episodes. Fresh
    experience goes out first: each piece of L steps is queued once it is complete (the online queue); the rest of a
    batch is drawn uniformly from all starts. Raises UserError if the capacity does not hold one sequence.
    """

    def __init__(self, capacity: int, num_envs: int, seq_len: int, seed: int = 0):
        self.check(capacity, num_envs, seq_len, batch_size=1)
        self.rows, self.num_envs, self.length = capacity // num_envs, num_envs, seq_len + 1
        self.rng = np.random.default_rng(seed)
        self.count = 0  # records added so far to each environment; the newest is number count - 1
        self.data: Record = {}  # (rows, N, ...)
        self.queue: deque[tuple[int, int]] = deque(maxlen=self.rows // self.length * num_envs)

    def __len__(self) -> int:
        return min(self.count, self.rows) * self.num_envs

    @staticmethod
    def rows_needed(num_envs: int, seq_len: int, batch_size: int) -> int:
        """Records of each environment that make a batch: one sequence, and as many steps as the batch replays."""
        return max(seq_len + 1, -(-batch_size * seq_len // num_envs))

    @classmethod
    def check(cls, capacity: int, num_envs: int, seq_len: int, batch_size: int) -> None:
        """Raise UserError if a replay of so many steps never gets :meth:`ready`: nothing would ever be learned."""
        rows, needed = capacity // num_envs, cls.rows_needed(num_envs, seq_len, batch_size)
        if rows < needed:
            raise UserError(
                f"replay: a capacity of {capacity} steps keeps {rows} of each of {num_envs} environments and never "
                f"holds a batch of {batch_size} x {seq_len} steps; make replay_capacity at least {needed * num_envs}"
            )

    def expect(self, batch_size: int, steps: int) -> None:
        """Warn if so many steps of the environments may not be enough to get :meth:`ready`."""
        needed = self.num_envs * self.rows_needed(self.num_envs, self.length - 1, batch_size)
        if steps < needed:
            warnings.warn(
                f"the training may end without having learned: a batch takes {needed} steps, and there are {steps}",
                stacklevel=4,
            )

    def ready(self, batch_size: int) -> bool:
        """Whether there is a sequence, and as many steps as a batch of so many replays."""
        return min(self.count, self.rows) >= self.rows_needed(self.num_envs, self.length - 1, batch_size)

    def add(self, record: Record) -> None:
        """Append one step of every environment: arrays (N, ...). Raises UserError unless they are as the first were."""
        if not self.data:
            self.data = {k: np.zeros((self.rows, *v.shape), v.dtype) for k, v in record.items()}
        for key, stored in self.data.items():
            if key not in record:
                raise UserError(f"replay: the record lacks {key}")
            if record[key].shape != stored.shape[1:]:
                raise UserError(f"replay: {key} has shape {record[key].shape}, not {stored.shape[1:]}")
        row = self.count % self.rows
        for key, values in record.items():
            self.data[key][row] = values
        self.count += 1
        if self.count % self.length == 0:
            self.queue.extend((self.count - self.length, env) for env in range(self.num_envs))

    def sample(self, batch_size: int) -> Record:
        """A batch of sequences, (B, L, ...) each, and ``index`` (B, L, 2), which :meth:`update` wants back."""
        if not self.ready(batch_size):
            needed = self.rows_needed(self.num_envs, self.length - 1, batch_size)
            missing = self.num_envs * needed - len(self)
            raise UserError(f"replay holds {len(self)} steps and needs {missing} more before it can give a batch")
        oldest = max(0, self.count - self.rows)
        starts = self.rng.integers(oldest, self.count - self.length + 1, batch_size)
        environments = self.rng.integers(0, self.num_envs, batch_size)
        fresh = 0
        while self.queue and fresh < batch_size:
            start, env = self.queue.popleft()
            if start >= oldest:
                starts[fresh], environments[fresh] = start, env
                fresh += 1
        steps = starts[:, None] + np.arange(self.length)
        index = np.stack([steps, np.broadcast_to(environments[:, None], steps.shape)], -1)
        batch = {key: values[steps % self.rows, environments[:, None]] for key, values in self.data.items()}
        batch["is_first"], batch["is_last"] = annotate(batch["is_first"], batch["is_last"])
        return {**batch, "index": index}

    def update(self, index: np.ndarray, deter: np.ndarray, stoch: np.ndarray) -> None:
        """Replace stored latents by fresh ones; records overwritten since are left alone."""
        kept = index[..., 0] >= self.count - self.rows
        rows, environments = index[..., 0][kept] % self.rows, index[..., 1][kept]
        self.data["deter"][rows, environments] = deter[kept]
        self.data["stoch"][rows, environments] = stoch[kept]

    @property
    def nbytes(self) -> int:
        """Memory of the full ring buffers, in bytes."""
        return sum(values.nbytes for values in self.data.values())

    def position(self) -> dict[str, Any]:
        """Everything that decides how to go on, but for the records; ``used`` is the number of rows in use."""
        used = min(self.count, self.rows)
        return {"count": self.count, "used": used, "queue": list(self.queue), "rng": self.rng.bit_generator.state}

    def go_on_from(self, position: dict[str, Any], record: Record) -> None:
        """Take over a :meth:`position`, with zeros in place of the records, which are to be like this one, (N, ...).

        Raises UserError if a full replay had another capacity.
        """
        if position["used"] != min(position["count"], self.rows):
            raise UserError("replay: what was saved comes from a replay of another capacity")
        self.count = position["count"]
        self.data = {k: np.zeros((self.rows, *v.shape), v.dtype) for k, v in record.items()}
        self.queue = deque((tuple(piece) for piece in position["queue"]), maxlen=self.queue.maxlen)
        self.rng.bit_generator.state = position["rng"]

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on exactly as before; of the buffers, the rows in use, not copied."""
        return {**self.position(), "data": {key: values[: self.count] for key, values in self.data.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`. Raises UserError if a full replay had another capacity."""
        self.go_on_from(state, {key: values[0] for key, values in state["data"].items()} if state["used"] else {})
        for key, values in self.data.items():
            values[: state["used"]] = state["data"][key]


def places(first: int, last: int, rows: int) -> list[slice]:
    """Where the records ``first`` to ``last - 1``, at most ``rows``, stand in a ring: one slice, or two at its end."""
    begin, length = first % rows, last - first
    head = min(length, rows - begin)
    return [slice(begin, begin + head)] + ([slice(0, length - head)] if head < length else [])
