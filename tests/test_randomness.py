"""Random numbers: whoever needs some has a generator of its own, and nobody draws from, or seeds, the global ones."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers import dreams, train
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.config import Config, preset
from dreamer_helpers.course import exercises
from dreamer_helpers.evaluate import evaluate
from dreamer_helpers.parts import Parts
from dreamer_helpers.trainer import Trainer
from dreamer_helpers.variants import VARIANTS
from dreamer_helpers.widgets import DreamPlayer, TrainingDashboard
from dreamer_helpers.worlds import Catch
from helpers import TINY, make_batch

CARTPOLE, CATCH = "CartPole-v1", "dreamer_helpers/Catch-v0"
VECTOR, TWO, DIALS = spaces.Box(-1, 1, (4,)), spaces.Discrete(2), spaces.Box(-1, 1, (2,))
FEW = dataclasses.replace(TINY, train_ratio=1.0, imagination_horizon=2)
BUTTONS = {"left": 0, "stay": 1, "right": 2}

# ----------------------------------------------------------------------------------------------- poisoned globals


def global_states() -> list[Any]:
    """The states of the global generators of torch, numpy and Python, as plain values."""
    return [torch.get_rng_state().tolist(), repr(np.random.get_state(legacy=False)), random.getstate()]


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Fail if anything inside draws from a global generator or seeds it; other threads count too."""
    random.seed(11), np.random.seed(12), torch.manual_seed(13)
    np.random.random(), random.random(), torch.rand(1)  # a state that no seed gives
    before = global_states()
    yield
    for name, was, now in zip(("torch", "numpy", "Python"), before, global_states(), strict=True):
        assert was == now, f"the global generator of {name} was drawn from or seeded"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.rand(1), lambda: torch.zeros(2).uniform_(), lambda: nn.Linear(2, 2), lambda: torch.randperm(3),
        lambda: torch.multinomial(torch.ones(2), 1), lambda: nn.init.trunc_normal_(torch.zeros(3)),
        lambda: nn.Dropout()(torch.ones(4)), lambda: torch.manual_seed(13), lambda: np.random.rand(),
        lambda: np.random.seed(12), random.random,
    ],
)  # fmt: skip
def test_the_poison_works(draw: Callable[[], Any]) -> None:
    with pytest.raises(AssertionError, match="global"), poisoned():
        draw()
    with poisoned():
        torch.rand(1, generator=torch.Generator().manual_seed(0))


class Learners(nn.Module):
    """A cell as a learner writes it, with layers and initialisers of torch."""

    def __init__(self, deter: int, stoch: int, action: int, units: int, blocks: int, norm: Callable[..., nn.Module]):
        super().__init__()
        self.gru, self.linear = nn.GRUCell(units, deter), nn.Linear(stoch + action, units)
        self.scale = nn.Parameter(torch.randn(units) + torch.empty(units).uniform_(-0.1, 0.1))
        nn.init.orthogonal_(self.linear.weight)
        nn.init.kaiming_normal_(self.gru.weight_hh)

    def forward(self, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
        return self.gru(self.linear(torch.cat([stoch, action], -1)) * self.scale, deter)


OWN = dataclasses.replace(Parts(), cell=Learners)


def agent(config: Config = TINY, actions: spaces.Space = TWO, parts: Parts | None = None, **more: Any) -> DreamerV3:
    return DreamerV3(config, more.pop("observation", VECTOR), actions, parts, **more)


def catcher(seed: int = 0) -> DreamerV3:
    world = Catch()
    return DreamerV3(TINY, world.observation_space, world.action_space, seed=seed)


@pytest.mark.parametrize("variant", [*VARIANTS, "learners"])
def test_making_acting_and_learning_draw_from_the_agents_own(variant: str) -> None:
    config = TINY if variant == "learners" else dataclasses.replace(TINY, variants=(variant,))
    observation = spaces.Dict({"image": spaces.Box(0, 255, (16, 16, 3), np.uint8), "vector": VECTOR})
    with poisoned():
        one = agent(config, DIALS, OWN if variant == "learners" else None, observation=observation)
        batch = make_batch(one.config, one.observation_space, DIALS)
        one.train_step(batch)
        obs = {key: value[:, 0].numpy() for key, value in batch.items()}
        one.act(obs, one.act(obs, None)[1], greedy=True)


@pytest.mark.parametrize("name", ["default", "card", "v2023"])
def test_so_do_the_nets_of_every_preset(name: str) -> None:
    cut = dict(rnn_hidden_dim=16, hidden_dim=16, num_categoricals=4, num_categories=4, cnn_depth=2, batch_size=2)
    config = preset(name, seq_len=3, imagination_horizon=2, blocks=2, **cut)
    with poisoned():
        one = agent(config, DIALS, observation=spaces.Box(0, 255, (32, 32, 3), np.uint8))
        one.train_step(make_batch(one.config, one.observation_space, DIALS))


@pytest.mark.parametrize(("env", "speed"), [(CARTPOLE, "readable"), (CATCH, "fast")])
def test_a_training_cut_and_resumed_draws_from_its_own(env: str, speed: str, tmp_path: Path) -> None:
    config = dataclasses.replace(FEW, average_share=0.5)
    with poisoned():
        train.train(config, env, 60, logdir=tmp_path, progress_bar=False, speed=speed)
        train.resume(tmp_path, steps=90, progress_bar=False, speed=speed)
        DreamerV3.from_checkpoint(tmp_path / "agent.safetensors")


@pytest.mark.slow
def test_looking_draws_from_its_own() -> None:
    """Evaluations, episodes, dreams and the widgets; a dashboard trains in a thread."""
    with poisoned():
        look(catcher(), 0)
        evaluate(agent(), CARTPOLE, 3, greedy=False)
        TrainingDashboard(FEW, CARTPOLE, 60, every=30).start().wait()


def test_checks_of_exercises_draw_from_their_own() -> None:
    exercises.load_lessons()
    assert exercises.REGISTRY
    for entry in exercises.REGISTRY.values():
        with poisoned():
            assert exercises.check(entry, entry.reference).state == "passed"


def look(one: DreamerV3, seed: int) -> list[Any]:
    """Every way to look at an agent that plays Catch, with this seed; all that was seen, as plain values."""
    evaluated = [evaluate(one, CATCH, 4, seed=seed, greedy=greedy) for greedy in (True, False)]
    chance = dreams.random_episode(CATCH, seed=seed)
    episode = dreams.record_episode(one, CATCH, seed=seed, greedy=False)
    films = [dreams.open_loop(one, episode, 2, seed=seed), dreams.dream_on(one, episode, 1, seed=seed)]
    player = DreamPlayer(one, CATCH, buttons=BUTTONS, seed=seed).play([0, 2, 1, 1])
    seen = [*evaluated, chance.action, episode.action, episode.obs["image"]]
    seen += [film.dreamed for film in films] + list(player.frames())
    return [np.asarray(value).tolist() for value in seen]


# ----------------------------------------------------------------------------------------- one seed, one outcome


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_seed_decides_all_weights_and_another_decides_others() -> None:
    """Those of a learner's parts too, whatever the global generator gives."""
    for parts in (None, OWN):
        made = []
        for seed, elsewhere in ((4, 1), (4, 2), (5, 2)):
            torch.manual_seed(elsewhere)
            made.append({name: p.detach() for name, p in agent(parts=parts, seed=seed).named_parameters()})
        assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
        fixed = {name for name, p in made[0].items() if torch.equal(p, made[2][name])}
        assert not {name for name in fixed if name.endswith("weight") and made[0][name].any()}
    learners = {name for name in made[0] if name.startswith("world_model.cell")}
    assert len(learners) == 7
    assert not learners & fixed


def test_the_seed_of_a_training_is_that_of_all_its_parts() -> None:
    """Agent, replay and each copy of the environment begin otherwise with another seed, and no two copies alike."""
    begun = []
    for seed in (8, 8, 9):
        trainer = Trainer(FEW, CATCH, 100, seed=seed)
        copies = [env.unwrapped.np_random.bit_generator.state["state"]["state"] for env in trainer.envs.envs]
        assert len(set(copies)) == FEW.num_envs
        begun.append([weights(trainer.agent).tolist(), trainer.agent.generator.get_state().tolist()])
        begun[-1] += [trainer.replay.rng.bit_generator.state, *copies]
    assert begun[0] == begun[1]
    assert not [number for number, (a, b) in enumerate(zip(begun[0], begun[2], strict=True)) if a == b]


def test_looking_twice_with_one_seed_shows_the_same() -> None:
    one = catcher()
    first = look(one, 3)
    one.generator.manual_seed(99)  # what the agent did between must not matter
    torch.manual_seed(98)
    assert look(one, 3) == first
    other = look(one, 4)
    alike = {number for number, (a, b) in enumerate(zip(first, other, strict=True)) if a == b}
    assert alike <= {0, 1}  # a few returns of 0 and 1 may agree


@pytest.mark.slow
def test_whoever_looks_changes_nothing_in_the_training() -> None:
    """At the agent that trains, and at another beside it."""
    ends = []
    for looking in (False, True):
        trainer, other = Trainer(FEW, CATCH, 1000, seed=2), catcher(seed=7)
        for number in range(30):
            if looking and number % 14 == 2:
                look(trainer.agent, number), look(other, number)
            trainer.step()
        assert trainer.progress.updates > 3
        state = [trainer.agent.generator.get_state(), trainer.replay.data["action"], trainer.record["image"]]
        ends.append([weights(trainer.agent), *map(torch.as_tensor, state)])
    for plain, watched in zip(*ends, strict=True):
        assert torch.equal(plain, watched)


# -------------------------------------------------------------------------------------------------- in threads


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Results of functions that begin at the same moment, each in a thread of its own."""
    barrier, results = threading.Barrier(len(functions)), [None] * len(functions)

    def work(number: int) -> None:
        barrier.wait()
        results[number] = functions[number]()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_agents_made_at_once_are_made_alike() -> None:
    wanted = [weights(agent(parts=parts, seed=6)) for parts in (None, OWN)]
    for _ in range(3):
        made = in_threads(
            *(lambda parts=parts: weights(agent(parts=parts, seed=6)) for parts in (None, OWN, None, OWN))
        )
        assert all(torch.equal(was, wanted[number % 2]) for number, was in enumerate(made))


@pytest.mark.slow
def test_trainings_at_once_are_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two dashboards, which record dreams beside, and two plain trainings, one of another seed."""
    monkeypatch.setattr(TrainingDashboard, "still", lambda board: b"")  # what takes long there is to draw
    plain = train.train(FEW, CATCH, 80, seed=3, progress_bar=False)
    boards = [TrainingDashboard(FEW, CATCH, 80, seed=3, every=every) for every in (30, 50)]
    for board in boards:
        board.start()
    same, other = in_threads(
        *(lambda s=seed: train.train(FEW, CATCH, 80, seed=s, progress_bar=False) for seed in (3, 4))
    )
    for progress in (*(board.wait() for board in boards), same):
        assert torch.equal(weights(progress.agent), weights(plain.agent))
        assert progress.episodes == plain.episodes
        assert all(np.array_equal(values, plain.replay.data[key]) for key, values in progress.replay.data.items())
    assert not torch.equal(weights(other.agent), weights(plain.agent))
