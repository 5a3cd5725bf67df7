"""Files: an agent takes over all of one or nothing; a replay is written once, and read once, to where it belongs."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_resume import ROOT, WORLDS, assert_same, cut_after
from torch import nn

from dreamer_helpers import checkpoint, command_line, envs, optim, train, world_model
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.checkpoint import AGENT_FILE, REPLAY_FOLDER, TRAINING_FILE
from dreamer_helpers.errors import UserError
from dreamer_helpers.fast import accelerate
from dreamer_helpers.parts import Parts
from dreamer_helpers.trainer import Progress, Trainer
from helpers import TINY, make_batch, slow

# ------------------------------------------------------------------------------------------- all of an agent or nothing


def new_agent(env: str = WORLDS[1], parts: Parts | None = None, seed: int = 0, **changes: Any) -> DreamerV3:
    """An agent after one update, so that no part of it is as it was begun."""
    config = dataclasses.replace(TINY, **changes)
    world = envs.make(env)
    agent = DreamerV3(config, world.observation_space, world.action_space, parts, seed=seed)
    agent.train_step(make_batch(config, agent.observation_space, world.action_space, seed))
    return agent


def everything(agent: DreamerV3) -> list[Any]:
    return copy.deepcopy([agent.state_dict(), agent.optimizer.state_dict(), agent.generator.get_state()])


def mine(*args: Any, **kwargs: Any) -> Any:
    """A learner's KL loss."""
    return world_model.kl_loss(*args, **kwargs)


class OtherCell(nn.Module):
    """A cell with parameters of other names."""

    def __init__(self, deter: int, stoch: int, action: int, *rest: Any):
        super().__init__()
        self.cell = nn.GRUCell(stoch + action, deter)

    def forward(self, deter: torch.Tensor, stoch: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.cell(torch.cat([stoch, action], -1), deter)


def adam(agent: DreamerV3) -> torch.optim.Optimizer:
    return torch.optim.Adam(agent.parameters(), 1e-3)


def rewritten(agent: DreamerV3, **attributes: Any) -> DreamerV3:
    for name, value in attributes.items():
        setattr(agent, name, value)
    return agent


class Chance:
    """Stands in for a generator whose state is another's."""

    device = torch.device("cpu")

    def __init__(self, state: torch.Tensor):
        self.state = state

    def get_state(self) -> torch.Tensor:
        return self.state


def with_one_group() -> DreamerV3:
    agent = new_agent()
    return rewritten(agent, optimizer=optim.LaProp([{"params": list(agent.parameters())}]))


def with_groups_of_other_sizes() -> DreamerV3:
    agent = new_agent()
    nets = [list(net.parameters()) for net in (agent.actor, agent.world_model, agent.critic.head)]
    return rewritten(agent, optimizer=optim.LaProp([{"params": net} for net in nets]))


def with_state_of_another_shape() -> DreamerV3:
    agent = new_agent()
    last = agent.optimizer.param_groups[-1]["params"][-1]
    agent.optimizer.state[last]["momentum"] = torch.zeros(3, 5)
    return agent


def with_state_of_another_name() -> DreamerV3:
    agent = new_agent()
    last = agent.optimizer.param_groups[-1]["params"][-1]
    agent.optimizer.state[last]["first"] = agent.optimizer.state[last].pop("momentum")
    return agent


OTHERS: dict[str, tuple[Callable[[], DreamerV3], str]] = {
    "task": (lambda: new_agent(WORLDS[0]), "was trained on another task"),
    "configuration": (lambda: new_agent(entropy_coef=1e-3), r"another configuration \(entropy_coef\)"),
    "part": (lambda: new_agent(parts=Parts(kl_loss=mine)), "parts are not all the package's own"),
    "parameters": (lambda: rewritten(new_agent(parts=Parts(cell=OtherCell)), foreign={}), "an agent of other parts"),
    "optimizer": (lambda: rewritten(new_agent(parts=Parts(optimizer=adam)), foreign={}), "another optimizer"),
    "one group": (with_one_group, "another optimizer"),
    "sizes of groups": (with_groups_of_other_sizes, "another optimizer"),
    "shape of state": (with_state_of_another_shape, "another optimizer"),
    "name of state": (with_state_of_another_name, "another optimizer"),
    "size of chance": (lambda: rewritten(new_agent(), generator=Chance(torch.zeros(7).byte())), "random numbers"),
    "chance": (lambda: rewritten(new_agent(), generator=Chance(torch.zeros(5056).byte())), "random numbers"),
}


def refuse(agent: DreamerV3, path: Path, words: str) -> None:
    """The agent says in one line why it does not take over the file, and is what it was to the last bit."""
    before = everything(agent)
    with pytest.raises(UserError, match=words) as caught:
        agent.load(path)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(everything(agent), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_does_not_fit_leaves_the_agent_as_it_was(kind: str, tmp_path: Path) -> None:
    make, words = OTHERS[kind]
    make().save(tmp_path / "other")
    agent = new_agent(seed=1)
    refuse(agent, tmp_path / "other", words)
    if kind == "optimizer":
        refuse(accelerate(agent, "fast"), tmp_path / "other", words)


def test_an_optimizer_that_refuses_by_itself_leaves_the_agent_as_it_was(tmp_path: Path) -> None:
    new_agent().save(tmp_path / "other")
    agent = new_agent(seed=1)

    def load(state: dict[str, Any]) -> None:
        raise ValueError("not today")

    agent.optimizer.load_state_dict = load
    refuse(agent, tmp_path / "other", r"another optimizer \(not today\)")


def test_what_is_no_whole_file_of_today_leaves_the_agent_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, path = new_agent(seed=1), tmp_path / "file"
    refuse(agent, path, "no checkpoint at")
    for content in (
        b"",
        b"1234",
        b"not a file of tensors" * 99,
        b"\x02" + bytes(7) + b"[]",
        b"\x02" + bytes(7) + b"{}",
    ):
        path.write_bytes(content)
        refuse(agent, path, "is damaged or no checkpoint|is a safetensors file, but no")
    save_file({"a": torch.zeros(3)}, path)
    refuse(agent, path, "is a safetensors file, but no dreamer-helpers agent or dreamer-helpers training")
    new_agent().save(path)
    whole = path.read_bytes()
    for cut in (len(whole) - 1, len(whole) // 2, 1000, 3):
        path.write_bytes(whole[:cut])
        refuse(agent, path, "is damaged or no checkpoint")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "VERSION", 3)
        new_agent().save(path)
    refuse(agent, path, "is of version 3, and this package reads version 4")
    path.write_bytes(whole)
    assert agent.load(path) is agent
    torch.testing.assert_close(everything(agent), everything(new_agent()), rtol=0, atol=0)


def test_an_optimizer_without_state_takes_over_that_of_one_that_has_stepped(tmp_path: Path) -> None:
    agent = new_agent(parts=Parts(optimizer=adam))
    agent.save(tmp_path / "agent")
    other = DreamerV3.from_checkpoint(tmp_path / "agent", Parts(optimizer=adam))
    torch.testing.assert_close(everything(other), everything(agent), rtol=0, atol=0)


# --------------------------------------------------------------------------------------------- parts of a learner's own


@pytest.mark.parametrize(
    "names", [*(pytest.param((one,), marks=pytest.mark.slow) for one in ("kl_loss", "cell")), ("kl_loss", "cell")],
    ids=" ".join,
)  # fmt: skip
def test_an_agent_of_other_parts_needs_them_again(names: tuple[str, ...], tmp_path: Path) -> None:
    slots, config = {"kl_loss": mine, "cell": OtherCell}, dataclasses.replace(TINY, train_ratio=1.0)
    parts, path = Parts(**{name: slots[name] for name in names}), tmp_path / TRAINING_FILE
    with pytest.MonkeyPatch.context() as patch:
        cut_after(20, patch)
        cut = train.train(config, WORLDS[1], 120, parts=parts, logdir=tmp_path, progress_bar=False)
    words = "parts are not all the package's own .*give the same parts"
    for other in (None, Parts(), Parts(actor_loss=mine), *([Parts(kl_loss=mine)] if "cell" in names else [])):
        for file in (AGENT_FILE, TRAINING_FILE):
            with pytest.raises(UserError, match=words):
                DreamerV3.from_checkpoint(tmp_path / file, parts=other)
        before = path.read_bytes()
        with pytest.raises(UserError, match=words):
            train.resume(tmp_path, parts=other, progress_bar=False)
        assert path.read_bytes() == before
    assert DreamerV3.from_checkpoint(path, parts=parts).foreign == parts.foreign()
    found = DreamerV3.from_checkpoint(tmp_path / AGENT_FILE, parts=parts)
    torch.testing.assert_close(found.state_dict(), cut.agent.state_dict(), rtol=0, atol=0)
    whole = train.train(config, WORLDS[1], 120, parts=parts, progress_bar=False)
    assert_same(whole, train.resume(tmp_path, parts=parts, progress_bar=False))


def test_another_part_in_the_same_slot_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def another(*arguments: Any) -> Any:
        return mine(*arguments)

    new_agent(parts=Parts(kl_loss=mine)).save(tmp_path / "agent")
    with caplog.at_level("WARNING", "dreamer_helpers"):
        DreamerV3.from_checkpoint(tmp_path / "agent", Parts(kl_loss=mine))
        assert not caplog.records
        DreamerV3.from_checkpoint(tmp_path / "agent", Parts(kl_loss=another))
    (record,) = caplog.records
    assert "was made with mine for kl_loss, and this agent has test_another" in record.getMessage()


def test_the_package_s_own_parts_do_not_read_another_s_file(tmp_path: Path) -> None:
    new_agent().save(tmp_path / "agent")
    with pytest.raises(UserError, match=r"\(none; this one's: kl_loss\)"):
        DreamerV3.from_checkpoint(tmp_path / "agent", Parts(kl_loss=mine))


# ----------------------------------------------------------------------------------------------- the replay, in chunks


def run(folder: Path | None, steps: int = 240, calls: int | None = None, capacity: int = 1000) -> Progress:
    """Train for so many steps, or stop after so many calls of ``Trainer.step``. There are few updates: files matter."""
    config = dataclasses.replace(TINY, replay_capacity=capacity, train_ratio=0.4)
    with pytest.MonkeyPatch.context() as patch:
        if calls:
            cut_after(calls, patch)
        return train.train(config, WORLDS[1], steps, seed=3, logdir=folder, log_every=60, progress_bar=False)


@functools.cache
def uncut(capacity: int = 1000) -> Progress:
    """The training that never was on a disk."""
    return run(None, capacity=capacity)


def go_on(folder: Path, calls: int | None = None) -> Progress:
    with pytest.MonkeyPatch.context() as patch:
        if calls:
            cut_after(calls, patch)
        return train.resume(folder, progress_bar=False)


def chunk_files(folder: Path) -> list[Path]:
    return sorted((folder / REPLAY_FOLDER).glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "capacity"),
    [(40, 100), (120, 100), (40, 1000), *(pytest.param(4, n, marks=pytest.mark.slow) for n in (100, 1000))],
)  # fmt: skip
def test_a_replay_in_chunks_goes_on_as_if_never_cut(
    steps: int, capacity: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the ring has overwritten a part of a chunk, or is smaller than one."""
    monkeypatch.setattr(checkpoint, "CHUNK_STEPS", steps)
    run(tmp_path, 240, 13, capacity)
    for calls in (1, 14, 8):
        go_on(tmp_path, calls)
    assert bool(chunk_files(tmp_path)) == (steps <= capacity)
    assert_same(uncut(capacity), go_on(tmp_path))


def test_a_chunk_is_written_once_and_deleted_when_its_records_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK_STEPS", 40)
    trainer = Trainer(dataclasses.replace(TINY, replay_capacity=200, train_ratio=0.2), WORLDS[1], 2000, folder=tmp_path)
    (tmp_path / REPLAY_FOLDER).mkdir()
    (tmp_path / REPLAY_FOLDER / "notes.txt").write_text("somebody's own")
    seen: dict[str, tuple[int, int, bytes]] = {}
    for _ in range(12):
        for _ in range(13):
            trainer.step()
        trainer.save()
        found = {}
        for path in chunk_files(tmp_path):
            if path.suffix == ".safetensors":
                found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        numbers = [int(name[:9]) for name in found]
        oldest = max(0, trainer.replay.count - 50)
        assert numbers == list(range(oldest // 10 * 10, trainer.replay.count // 10 * 10, 10))
        assert all(seen[name] == found[name] for name in seen.keys() & found.keys())
        seen = found
        assert (tmp_path / TRAINING_FILE).stat().st_size < 400_000
    assert (tmp_path / REPLAY_FOLDER / "notes.txt").exists()
    state, expected = checkpoint.load_training(tmp_path / TRAINING_FILE)["replay"], trainer.replay.state_dict()
    assert state["data"].keys() == expected["data"].keys()
    for key, values in expected["data"].items():
        np.testing.assert_array_equal(state["data"][key], values)
        assert state["data"][key].dtype == values.dtype


@pytest.mark.slow
def test_a_chunk_stays_until_the_file_that_needs_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training file that cannot be written, after the chunks were: the last checkpoint is whole."""
    monkeypatch.setattr(checkpoint, "CHUNK_STEPS", 40)
    cut = run(tmp_path, 240, 35, capacity=100)
    before = {path.name for path in chunk_files(tmp_path)}
    assert before == {"000000010.safetensors", "000000020.safetensors"}
    write = checkpoint.tensorfile.write

    def fails(path: Path, *rest: Any) -> None:
        if path.name == TRAINING_FILE:
            raise UserError("cannot write")
        write(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.tensorfile, "write", fails)
        with pytest.raises(UserError, match=f"cannot write; the last good checkpoint is of step {cut.steps}"):
            go_on(tmp_path, 15)
    assert before < {path.name for path in chunk_files(tmp_path)}
    assert_same(uncut(capacity=100), go_on(tmp_path))


@pytest.mark.slow
def test_chunks_that_no_training_file_knows_are_ignored_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kill leaves them: complete ones, and partial ones."""
    monkeypatch.setattr(checkpoint, "CHUNK_STEPS", 40)
    run(tmp_path, 240, 25)
    folder = tmp_path / REPLAY_FOLDER
    known = chunk_files(tmp_path)
    assert [path.name for path in known] == ["000000000.safetensors", "000000010.safetensors"]
    for name in ("000000020.safetensors", "000000025.safetensors", "000000030.safetensors.partial"):
        (folder / name).write_bytes(b"left behind")
    go_on(tmp_path, 8)
    assert chunk_files(tmp_path) == [*known, folder / "000000020.safetensors"]
    assert_same(uncut(), go_on(tmp_path))


@pytest.mark.slow
def test_a_chunk_that_is_not_what_was_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK_STEPS", 40)
    run(tmp_path, 240, 25)
    first, second = chunk_files(tmp_path)
    content, training = first.read_bytes(), (tmp_path / TRAINING_FILE).read_bytes()
    spoiled = {
        "is missing": None, "is damaged or no checkpoint": content[:-1],
        "is damaged or of another training": content[:-1] + bytes([content[-1] ^ 1]),  # one bit
        "is damaged or of another": second.read_bytes(), "damaged or no checkpoint": b"nothing",
        "is a safetensors file, but no": (tmp_path / AGENT_FILE).read_bytes(),
    }  # fmt: skip
    for words, instead in spoiled.items():
        first.unlink()
        if instead is not None:
            first.write_bytes(instead)
        with pytest.raises(UserError, match=f"{first}.*{words}") as caught:
            train.resume(tmp_path, progress_bar=False)
        assert "\n" not in str(caught.value)
        assert (tmp_path / TRAINING_FILE).read_bytes() == training
        first.write_bytes(content)
    assert_same(uncut(), go_on(tmp_path))


def test_the_replay_is_set_aside_with_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK_STEPS", 40)
    for calls in (25, 45):
        run(tmp_path, 240, calls)
    assert [len(chunk_files(folder)) for folder in (tmp_path / "earlier-1", tmp_path)] == [2, 4]
    assert_same(uncut(), go_on(tmp_path / "earlier-1"))
    assert_same(uncut(), go_on(tmp_path))


@pytest.mark.parametrize("moment", range(7))
def test_a_kill_while_it_is_set_aside_leaves_it_whole(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each of two links, three renames and the removal, and after all."""
    monkeypatch.setattr(checkpoint, "CHUNK_STEPS", 40)
    trainer = Trainer(TINY, WORLDS[1], 2000, folder=tmp_path)
    for _ in range(25):
        trainer.replay.add(record := {**trainer.record, **LATENT, "action": np.zeros((4, 3), np.float32)})
    trainer.save()
    trainer.agent.save(tmp_path / AGENT_FILE)
    trainer.write_log([], "w")
    calls = itertools.count()

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **keywords: Any) -> Any:
            if next(calls) == moment:
                raise KeyboardInterrupt
            return function(*arguments, **keywords)

        return act

    with monkeypatch.context() as patch:
        for owner, name in ((os, "link"), (Path, "rename"), (checkpoint.shutil, "rmtree")):
            patch.setattr(owner, name, killing(getattr(owner, name)))
        with contextlib.suppress(KeyboardInterrupt):
            checkpoint.set_aside(tmp_path)
    assert next(calls) == min(moment + 1, 6)
    (found,) = tmp_path.rglob(TRAINING_FILE)
    assert found.parent == (tmp_path if moment < 3 else tmp_path / "earlier-1")
    data = checkpoint.load_training(found)["replay"]["data"]
    np.testing.assert_array_equal(data["image"], np.repeat(record["image"][None], 25, 0))


LATENT = {"deter": np.zeros((4, TINY.rnn_hidden_dim), np.float32), "stoch": np.zeros((4, 4), np.int16)}


def test_without_links_a_replay_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_link(*arguments: Any) -> None:
        raise OSError("no links here")

    (tmp_path / REPLAY_FOLDER).mkdir()
    (tmp_path / REPLAY_FOLDER / "000000000.safetensors").write_bytes(b"chunk")
    monkeypatch.setattr(os, "link", refuse_link)
    checkpoint.set_aside(tmp_path)
    assert [p.read_bytes() for p in chunk_files(tmp_path / "earlier-1")] == [b"chunk"]
    assert not (tmp_path / REPLAY_FOLDER).exists()


@contextmanager
def opened_for_reading(folder: Path) -> Iterator[list[str]]:
    """The names of the files under a folder that Python opens for reading; one that is opened twice is there twice."""
    names: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and counting and arguments[1] in ("r", "rb"):
            path = Path(os.fsdecode(arguments[0]))
            if folder in path.parents:
                names.append(path.name)

    counting = True
    sys.addaudithook(hook)
    yield names
    counting = False


@pytest.mark.parametrize("through", ["resume", slow("command line")])
def test_each_file_is_read_once(through: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "CHUNK_STEPS", 40)
    run(tmp_path, 240, 25)
    names = [path.name for path in chunk_files(tmp_path)]
    with opened_for_reading(tmp_path) as opened:
        if through == "resume":
            train.resume(tmp_path, progress_bar=False)
        else:
            line = ["--resume", str(tmp_path), "--device", "cpu", "--eval-episodes", "0"]
            command_line.main(train.train, train.resume, line)
    assert sorted(opened) == sorted([TRAINING_FILE, *names])


PEAK = """
import dataclasses, sys
from pathlib import Path
from dreamer_helpers import train
from dreamer_helpers.trainer import Trainer
from helpers import TINY

what, folder, rows, world, units = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])
if what == "make":
    config = dataclasses.replace(TINY, replay_capacity=rows * TINY.num_envs, rnn_hidden_dim=units)
    trainer = Trainer(config, world, 10**9, folder=folder)
    trainer.step()
    record = {key: values[0].copy() for key, values in trainer.replay.data.items()}
    for _ in range(rows + 100):
        trainer.replay.add(record)
    trainer.save()
    print(trainer.replay.nbytes)
else:
    Trainer.step, Trainer.save = lambda self: setattr(self.progress, "stop", True), lambda self: None
    train.resume(folder, progress_bar=False)
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1] + "000")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("world", "units", "rows"), [(WORLDS[2], 16, 4750), (WORLDS[1], 1024, 3000)])
def test_a_replay_is_never_held_twice(world: str, units: int, rows: int, tmp_path: Path) -> None:
    """What resuming takes for a replay of 60 MB, most of it frames or most of it latents, beside one of a few steps."""

    def measured(what: str, rows: int) -> int:
        line = [sys.executable, "-c", PEAK, what, str(tmp_path / str(rows)), str(rows), world, str(units)]
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    for count in (rows, 64):
        (tmp_path / str(count)).mkdir()
    size = measured("make", rows)
    assert measured("make", 64) < 5e6 < 50e6 < size
    growth = measured("resume", rows) - measured("resume", 64)
    assert 0.7 * size < growth < 1.4 * size, (size, growth)
