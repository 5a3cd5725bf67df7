"""Nothing is lost on the way: a training that is cut, killed, or goes wrong, and what is left of it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamer_helpers import checkpoint, command_line, train
from dreamer_helpers.checkpoint import AGENT_FILE, REPLAY_FOLDER, TRAINING_FILE
from dreamer_helpers.errors import UserError
from dreamer_helpers.trainer import Progress, Trainer
from helpers import TINY

ROOT = Path(__file__).resolve().parent.parent
WORLDS = ["dreamer_helpers/TMaze-v0", "dreamer_helpers/Catch-v0", "dreamer_helpers/Orchard-v0"]


def cut_after(calls: int, patch: pytest.MonkeyPatch) -> None:
    """Let every training stop after so many steps of its environments in lockstep."""
    step, count = Trainer.step, [0]

    def counted(self: Trainer) -> None:
        step(self)
        count[0] += 1
        self.progress.stop = count[0] == calls

    patch.setattr(Trainer, "step", counted)


def without_times(log: list[dict[str, float]]) -> str:
    return json.dumps([{key: value for key, value in row.items() if not key.endswith("_s")} for row in log])


def assert_same(one: Progress, two: Progress) -> None:
    """The two trainings are the same to the last bit."""
    torch.testing.assert_close(one.agent.state_dict(), two.agent.state_dict(), rtol=0, atol=0)
    states = [progress.agent.optimizer.state_dict() for progress in (one, two)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert (one.steps, one.updates, one.episodes) == (two.steps, two.updates, two.episodes)
    assert without_times(one.log) == without_times(two.log)
    used = len(one.replay) // one.replay.num_envs
    for key, values in one.replay.data.items():
        np.testing.assert_array_equal(values[:used], two.replay.data[key][:used])


# ---------------------------------------------------------------------------------------------- cut and go on


@pytest.mark.slow
@pytest.mark.parametrize("env", WORLDS)
@pytest.mark.parametrize("cuts", [(13,), (21, 10)], ids=["once", "twice"])
def test_cut_and_resumed_is_as_if_never_cut(env: str, cuts: tuple[int, ...], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = train.train(TINY, env, 240, seed=3, log_every=40, logdir=tmp_path / "whole", progress_bar=False)
    for number, calls in enumerate(cuts):
        with pytest.MonkeyPatch.context() as patch:
            cut_after(calls, patch)
            if number == 0:
                train.train(TINY, env, 240, seed=3, log_every=40, logdir=tmp_path / "cut", progress_bar=False)
            else:
                train.resume(tmp_path / "cut", progress_bar=False)
    torch.manual_seed(99)  # what happens between must not matter
    resumed = train.resume(tmp_path / "cut", progress_bar=False)
    assert_same(whole, resumed)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "cut")
    ]
    assert without_times(logs[0]) == without_times(logs[1])
    assert len(logs[0]) >= 5


@pytest.mark.slow
def test_an_environment_without_a_state_begins_a_new_episode(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_after(40, patch)
        cut = train.train(TINY, "CartPole-v1", 400, logdir=tmp_path, progress_bar=False)
    done, episodes, used = cut.steps, list(cut.episodes), cut.replay.count
    resumed = train.resume(tmp_path, progress_bar=False)
    assert resumed.steps > done
    assert resumed.episodes[: len(episodes)] == episodes
    data = resumed.replay.data
    assert data["is_first"][used].all()
    assert resumed.updates > cut.updates
    assert all(value == length for _, value, length in resumed.episodes)  # none is a patchwork of two


@pytest.mark.slow
def test_a_complete_training_can_be_prolonged(tmp_path: Path) -> None:
    train.train(TINY, WORLDS[0], 200, logdir=tmp_path, progress_bar=False)
    with pytest.raises(UserError, match=r"is complete .* give a larger number of steps"):
        train.resume(tmp_path, progress_bar=False)
    assert train.resume(tmp_path, steps=300, progress_bar=False).steps > 280


@pytest.mark.slow
def test_what_cannot_be_resumed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        train.resume(tmp_path)
    from dreamer_helpers.worlds import Catch

    with pytest.MonkeyPatch.context() as patch:
        cut_after(5, patch)
        train.train(TINY, Catch, 200, logdir=tmp_path, progress_bar=False)
    with pytest.raises(UserError, match="does not say how its environment is made; give the function again"):
        train.resume(tmp_path)
    with pytest.raises(UserError, match="another task"):
        train.resume(tmp_path, env=WORLDS[2])
    train.resume(tmp_path, env=Catch, progress_bar=False)
    (tmp_path / TRAINING_FILE).write_bytes((tmp_path / TRAINING_FILE).read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        train.resume(tmp_path)
    (tmp_path / TRAINING_FILE).write_bytes((tmp_path / AGENT_FILE).read_bytes())
    with pytest.raises(UserError, match="no dreamer-helpers training"):
        train.resume(tmp_path)


@pytest.mark.slow
def test_an_earlier_training_is_set_aside(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        train.train(TINY, WORLDS[0], 100, seed=seed, logdir=tmp_path, progress_bar=False)
    names = {"log.jsonl", TRAINING_FILE, AGENT_FILE}
    assert {path.name for path in tmp_path.iterdir()} == names | {"earlier-1", "earlier-2"}
    seeds = [
        checkpoint.load_training(folder / TRAINING_FILE)["seed"]
        for folder in (tmp_path / "earlier-1", tmp_path / "earlier-2", tmp_path)
    ]
    assert seeds == [1, 2, 3]
    assert {path.name for path in (tmp_path / "earlier-2").iterdir()} == names


# ------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.slow
@pytest.mark.parametrize(("save_every", "updates"), [(1000, [0]), (0, range(15, 20))])
def test_the_first_loss_that_is_no_number_is_named_and_the_checkpoint_stays(
    save_every: float, updates: list[int], tmp_path: Path
) -> None:
    """The reward loss is infinite in update 20, all losses are NaN in the next."""
    update, count = Trainer.update, [0]

    def spoiled(self: Trainer) -> dict[str, torch.Tensor]:
        count[0] += 1
        metrics = update(self)
        if count[0] == 20:
            metrics["loss/reward"] = metrics["loss/reward"] * float("inf")
        if count[0] == 21:
            metrics = {key: value * float("nan") for key, value in metrics.items()}
        return metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", spoiled)
        with pytest.raises(UserError) as caught:
            train.train(TINY, WORLDS[1], 400, logdir=tmp_path, save_every=save_every, progress_bar=False)
    assert str(caught.value).startswith("loss/reward became inf in update 20, before all other losses, by step ")
    saved = checkpoint.load_training(tmp_path / TRAINING_FILE)["progress"]
    assert saved["updates"] in updates
    assert f"is of step {saved['steps']} and goes on with --resume {tmp_path}" in str(caught.value)
    assert train.resume(tmp_path, progress_bar=False).steps > 380


def test_parameters_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    trainer = Trainer(TINY, WORLDS[1], 100, folder=tmp_path)
    trainer.save()
    before = (tmp_path / TRAINING_FILE).read_bytes()
    with torch.no_grad():
        trainer.agent.world_model.encoder.cnn.stages[0][0].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"world_model.encoder.cnn.*weight is no longer finite at step 0"):
        trainer.save()
    assert (tmp_path / TRAINING_FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [TRAINING_FILE]


@contextmanager
def full_disk(file: Path) -> Iterator[None]:
    """Let the log go to the disk of Linux that is always full, or refuse files that are larger than 50 kB."""
    if file.name == "log.jsonl":
        file.unlink()
        file.symlink_to("/dev/full")
        yield
        file.unlink()
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("full", [TRAINING_FILE, "log.jsonl"])
def test_a_full_disk_is_one_line_and_loses_nothing(full: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_after(20, patch)
        train.train(TINY, WORLDS[1], 400, logdir=tmp_path, log_every=40, progress_bar=False)
    before = (tmp_path / TRAINING_FILE).read_bytes()
    words = "(No space left on device|File too large).*; the last good checkpoint is of step .* goes on with --resume"
    with full_disk(tmp_path / full), pytest.raises(UserError, match=f"cannot write .*{words}") as caught:
        train.resume(tmp_path, progress_bar=False)
    assert "\n" not in str(caught.value)
    assert (tmp_path / TRAINING_FILE).read_bytes() == before
    assert not (tmp_path / (TRAINING_FILE + ".partial")).exists()
    assert train.resume(tmp_path, progress_bar=False).steps > 380


def test_a_folder_that_cannot_be_written_is_told_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.perf_counter()
    with pytest.raises(SystemExit) as caught:
        command_line.main(train.train, train.resume, ["--env", WORLDS[1], "--device", "cpu", "--logdir", "/proc/self"])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert "cannot write" in message
    assert "/proc/self" in message
    assert time.perf_counter() - begun < 20


@pytest.mark.slow
def test_a_crash_of_the_environment_does_not_end_the_training(caplog: pytest.LogCaptureFixture) -> None:
    from dreamer_helpers.worlds import Catch

    class Fragile(Catch):
        steps = 0

        def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            Fragile.steps += 1
            if Fragile.steps % 50 == 0:
                raise RuntimeError("lost contact")
            return super().step(action)

    progress = train.train(TINY, Fragile, 400, progress_bar=False)
    assert progress.steps > 380
    assert len(caplog.messages) == Fragile.steps // 50
    assert progress.replay.data["is_last"].sum() > progress.replay.data["is_terminal"].sum()


def test_a_replay_that_does_not_fit_the_machine_is_refused_at_once() -> None:
    import dataclasses

    big = dataclasses.replace(TINY, replay_capacity=10**12)
    with pytest.raises(UserError, match=r"a replay of .* steps would take .* GB when full, and this machine has"):
        Trainer(big, WORLDS[2], 10**11)
    train.train(big, WORLDS[1], 100, progress_bar=False)  # as many steps as there will be do fit


def test_the_stated_size_of_the_replay_is_what_it_takes() -> None:
    trainer = Trainer(TINY, WORLDS[2], 100)
    trainer.step()
    assert trainer.replay.nbytes == trainer.replay_bytes()


@pytest.mark.slow
def test_memory_stays_within_what_is_stated(tmp_path: Path) -> None:
    """A small replay, filled five times over: after the first round nothing grows any more."""
    minutes = float(os.environ.get("SOAK_MINUTES", "0.25"))
    settings = dict(vars(TINY), replay_capacity=400, train_ratio=1.0)
    seen: list[tuple[float, int]] = []
    begun = time.monotonic()

    def look(progress: Progress) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        seen.append((time.monotonic() - begun, pages * resource.getpagesize()))
        progress.stop = seen[-1][0] > 60 * minutes

    progress = train.train(
        type(TINY)(**settings), WORLDS[2], 10**9, logdir=tmp_path, callback=look, progress_bar=False, save_every=2
    )
    assert progress.replay.count * progress.replay.num_envs > 5 * 400
    half = [size for at, size in seen if at > seen[-1][0] / 2]
    assert max(half) - half[0] < 30e6, (half[0], max(half))
    print(
        f"{progress.steps} steps, {seen[-1][0]:.0f} s, {half[0] / 1e6:.0f} MB at half time, {half[-1] / 1e6:.0f} later"
    )


# ------------------------------------------------------------------------------------------------- kills

SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from dreamer_helpers import checkpoint, tensorfile, train
from test_resume import SMALL_REPLAY

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

file, moment, folder = sys.argv[1:]
checkpoint.CHUNK_STEPS = 8
save, write, replace, unlink = checkpoint.save, tensorfile.save_file, os.replace, Path.unlink
saved = 0

def now(path, then):
    third = saved == 2 and Path(path).name.startswith("training" if file == "training" else "000000000")
    if third and then == moment:
        die()
    return third

def save_counted(*arguments):
    global saved
    save(*arguments)
    saved += 1

def save_file(tensors, path, metadata):
    now(path, "before the write")
    write(tensors, path, metadata)
    if moment == "half-way" and now(path, "written"):
        os.truncate(path, os.path.getsize(path) // 2)
        die()

def rename(old, new):
    now(new, "before the rename")
    replace(old, new)
    now(new, "after the rename")

def remove(path):
    if moment == "before it is deleted":
        die()
    unlink(path)
    die()

checkpoint.save, tensorfile.save_file, os.replace = save_counted, save_file, rename
if moment.endswith("it is deleted"):
    Path.unlink = remove
train.train(
    SMALL_REPLAY, "dreamer_helpers/Catch-v0", 400, seed=3, logdir=folder, log_every=60, save_every=0,
    progress_bar=False,
)
"""

SMALL_REPLAY = dataclasses.replace(TINY, replay_capacity=40, train_ratio=1.0)
WRITING = ("before the write", "half-way", "before the rename", "after the rename")
MOMENTS = [(file, moment) for file in ("training", "chunk") for moment in WRITING]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "moment"), [*MOMENTS, ("chunk", "before it is deleted"), ("chunk", "after it is deleted")]
)
def test_killed_while_saving(file: str, moment: str, tmp_path: Path) -> None:
    """Whatever moment of the third save it is, which also writes the first chunk of two records, or of the first that
    deletes a chunk: the last complete checkpoint goes on to what would have been."""
    torch.set_num_threads(1)
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, file, moment, str(tmp_path / "cut")], capture_output=True, text=True,
        check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = {path.name for path in (tmp_path / "cut").rglob("*.partial")}
    name = TRAINING_FILE if file == "training" else "000000000.safetensors"
    assert left == ({name + ".partial"} if moment in ("half-way", "before the rename") else set())
    saved = checkpoint.load_training(tmp_path / "cut" / TRAINING_FILE)["progress"]["steps"]
    if moment.endswith("it is deleted"):
        assert saved == 44  # the first chunk of two goes with the twelfth record, ten are kept; one began an episode
    else:  # the first save is of step 0, each step adds 4
        assert saved == (8 if (file, moment) == ("training", "after the rename") else 4)
    whole = train.train(SMALL_REPLAY, WORLDS[1], 400, seed=3, log_every=60, progress_bar=False)
    assert_same(whole, train.resume(tmp_path / "cut", progress_bar=False))


def small() -> list[str]:
    """TINY on the command line."""
    changed = {name: value for name, value in vars(TINY).items() if value != getattr(type(TINY)(), name)}
    values = {k: ",".join(map(str, v)) if isinstance(v, tuple) else v for k, v in changed.items()}
    return ["--preset", "default", "--device", "cpu", *(f"--set={name}={value}" for name, value in values.items())]


CHUNKS = """
from dreamer_helpers import checkpoint, command_line, train
checkpoint.CHUNK_STEPS = 40
command_line.main(train.train, train.resume)
"""


def launch(*arguments: str, small_chunks: bool = False) -> subprocess.Popen[str]:
    """The command line; with chunks that also a short training fills, if so wished."""
    line = [sys.executable, *(["-c", CHUNKS] if small_chunks else ["-m", "dreamer_helpers.train"]), *arguments]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.02)


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path: Path) -> None:
    """Killed again and again while it saves after every step, a training always goes on, and never goes back."""
    rng, steps = random.Random(0), -1
    for kill in range(20):
        process = launch(
            *(["--resume", str(tmp_path)] if kill else ["--env", WORLDS[1], "--logdir", str(tmp_path), *small()]),
            *([] if kill else ["--save-every", "0"]), "--steps", "1000000", small_chunks=True,
        )  # fmt: skip
        before = (tmp_path / TRAINING_FILE).stat().st_mtime_ns if kill else 0
        limit = time.monotonic() + 60
        while not (tmp_path / TRAINING_FILE).exists() or (tmp_path / TRAINING_FILE).stat().st_mtime_ns == before:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < limit
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
        saved = checkpoint.load_training(tmp_path / TRAINING_FILE)["progress"]["steps"]
        assert saved >= steps
        steps = saved
    assert steps > 100
    assert list((tmp_path / REPLAY_FOLDER).glob("*.safetensors"))
    resumed = train.resume(tmp_path, steps=steps + 100, progress_bar=False)
    assert resumed.steps > steps + 90


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(number: signal.Signals, code: int, tmp_path: Path) -> None:
    process = launch("--env", WORLDS[1], "--logdir", str(tmp_path), "--steps", "1000000", *small())
    wait_for(tmp_path / TRAINING_FILE, process)
    time.sleep(0.5)
    process.send_signal(number)
    _, message = process.communicate(timeout=60)
    last = message.strip().splitlines()[-1]
    assert process.returncode == code, message
    steps = checkpoint.load_training(tmp_path / TRAINING_FILE)["progress"]["steps"]
    assert steps > 0
    assert last == f"stopped at step {steps:,}; go on with --resume {tmp_path}"
    resumed = launch(
        "--resume", str(tmp_path), "--device", "cpu", "--steps", str(steps + 100), "--eval-episodes", "all"
    )
    out, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    result = json.loads(out)
    assert steps + 90 < result["steps"] <= steps + 100
    assert (result["env"], result["seed"], result["preset"]) == (WORLDS[1], 0, "changed")
    assert result["eval_episodes"] == 128
