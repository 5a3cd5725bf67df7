"""Replay: what goes in comes out, in order; fresh experience first; memory stays bounded; latents are refreshed."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer_helpers.errors import UserError
from dreamer_helpers.replay import Ratio, Replay, annotate, places

N, SEQ = 3, 4


def record(step: int) -> dict[str, np.ndarray]:
    """A step of N environments in which every number tells where it is from: 100 * environment + step."""
    where = (100 * np.arange(N) + step).astype(np.float32)
    return {
        "image": np.full((N, 2, 2, 1), step % 256, np.uint8), "where": where[:, None], "reward": where,
        "is_first": np.full(N, step % 7 == 0), "is_last": np.full(N, step % 7 == 6),
        "is_terminal": np.zeros(N, bool), "action": np.zeros((N, 2), np.float32),
        "deter": np.repeat(where[:, None], 5, 1), "stoch": np.zeros((N, 2), np.int16),
    }  # fmt: skip


def filled(steps: int, capacity: int = 300, seed: int = 0) -> Replay:
    replay = Replay(capacity, N, SEQ, seed)
    for step in range(steps):
        replay.add(record(step))
    return replay


def test_sequences_are_consecutive_and_of_one_environment() -> None:
    batch = filled(100).sample(64)
    assert batch["where"].shape == (64, SEQ + 1, 1)
    assert batch["image"].dtype == np.uint8
    steps = batch["where"][..., 0]
    np.testing.assert_array_equal(np.diff(steps, axis=1), 1.0)
    np.testing.assert_array_equal(steps // 100, batch["index"][..., 1])


def test_sequences_cross_the_ends_of_episodes() -> None:
    batch = filled(100).sample(60)
    assert batch["is_first"][:, 1:].any()


def test_every_start_is_drawn_equally_often() -> None:
    replay = filled(14)
    replay.queue.clear()
    starts = np.concatenate([replay.sample(10)["index"][:, 0] for _ in range(600)])
    counts = np.unique(starts, axis=0, return_counts=True)[1]
    expected = 6000 / (10 * N)
    assert len(counts) == 10 * N
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_fresh_pieces_come_first_and_once() -> None:
    replay = filled(2 * (SEQ + 1))
    first = replay.sample(4)["index"]
    assert [tuple(i) for i in first[:, 0]] == [(0, 0), (0, 1), (0, 2), (SEQ + 1, 0)]
    assert len(replay.queue) == 2
    replay.sample(4)
    assert not replay.queue


def test_memory_is_bounded_and_the_oldest_goes() -> None:
    replay = filled(20, capacity=60)
    size = replay.nbytes
    for step in range(20, 500):
        replay.add(record(step))
    assert replay.nbytes == size
    assert len(replay) == 60
    assert len(replay.queue) <= 20 // (SEQ + 1) * N
    drawn = np.concatenate([replay.sample(15)["index"][..., 0].ravel() for _ in range(60)])
    assert drawn.min() >= 480
    assert drawn.max() == 499


def test_fresh_pieces_that_were_overwritten_are_dropped() -> None:
    replay = filled(10, capacity=36)
    for step in range(10, 40):
        replay.add(record(step))
    batch = replay.sample(9)
    assert batch["index"][..., 0].min() >= 40 - 12


def test_latents_are_refreshed_where_they_belong() -> None:
    replay = filled(30)
    batch = replay.sample(5)
    index = batch["index"][:, 1:]
    replay.update(index, np.full((5, SEQ, 5), -1.0, np.float32), np.full((5, SEQ, 2), 7, np.int16))
    touched = {tuple(i) for i in index.reshape(-1, 2)}
    for step in range(30):
        for env in range(N):
            new = (step, env) in touched
            assert (replay.data["deter"][step, env] == -1.0).all() == new
            assert (replay.data["stoch"][step, env] == 7).all() == new


def test_latents_of_overwritten_steps_are_left_alone() -> None:
    replay = filled(12, capacity=36)
    index = replay.sample(4)["index"]
    for step in range(12, 24):
        replay.add(record(step))
    before = replay.data["deter"].copy()
    replay.update(index, np.full((4, SEQ + 1, 5), -1.0, np.float32), np.zeros((4, SEQ + 1, 2), np.int16))
    np.testing.assert_array_equal(replay.data["deter"], before)


def test_state_is_restored_exactly() -> None:
    one, two = filled(40), Replay(300, N, SEQ, seed=9)
    one.sample(3)
    two.load_state_dict(one.state_dict())
    for _ in range(3):
        a, b = one.sample(6), two.sample(6)
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_a_state_of_another_capacity_is_refused() -> None:
    full = filled(40, capacity=60).state_dict()
    with pytest.raises(UserError, match="another capacity"):
        Replay(90, N, SEQ).load_state_dict(full)
    other = Replay(90, N, SEQ)
    other.load_state_dict(filled(15, capacity=60).state_dict())  # nothing was lost yet
    assert len(other) == 45
    other.load_state_dict(filled(0).state_dict())
    assert len(other) == 0


@pytest.mark.parametrize("rows", [1, 5, 7])
def test_records_stand_where_the_ring_has_them(rows: int) -> None:
    ring = np.full(rows, -1)
    for number in range(20):
        ring[number % rows] = number
        for first in range(max(0, number + 1 - rows), number + 2):
            found = [record for at in places(first, number + 1, rows) for record in ring[at]]
            assert found == list(range(first, number + 1))


def test_annotate_marks_beginnings_and_breaks() -> None:
    first, last = annotate(np.array([[False, False, True, False]]), np.zeros((1, 4), bool))
    assert first.tolist() == [[True, False, True, False]]
    assert last.tolist() == [[False, True, False, False]]


def test_ratio_replays_as_many_steps_as_asked() -> None:
    ratio = Ratio(train_ratio=32, batch_steps=256)
    updates = sum(ratio(steps) for steps in range(0, 8001, 16))
    assert updates == 1001  # the first call gives one, then one for every 8 steps
    assert Ratio(0.0, 256)(0) == 1


def test_asked_too_early_it_says_how_much_is_missing() -> None:
    with pytest.raises(UserError, match="holds 6 steps and needs 36 more"):
        filled(2).sample(10)
    assert not filled(2).ready(10)
    with pytest.raises(UserError, match="keeps 3 of each of 3 environments and never holds a batch of 1 x 4"):
        Replay(10, N, SEQ)
    with pytest.raises(UserError, match="reward has shape"):
        filled(3).add({**record(3), "reward": np.zeros(N + 1, np.float32)})
    with pytest.raises(UserError, match="lacks action"):
        filled(3).add({k: v for k, v in record(3).items() if k != "action"})
