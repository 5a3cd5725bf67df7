"""The wiring between right parts: every number that a training hands on is the one that it should be.

A scripted world of which every number says where it is from, and a recorder that notes what acting, replay, learning
and dreaming were given and gave, beside what it computes itself from the layers of the same agent. Each test then holds
one part of these notes against the script. Faults that these tests are to see stand in ``mutants.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from dreamer_helpers import dreams, worlds
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.config import Config
from dreamer_helpers.evaluate import evaluate
from dreamer_helpers.trainer import Trainer
from dreamer_helpers.widgets import DreamPlayer
from dreamer_helpers.world_model import State
from helpers import TINY, make_batch, slow

# ----------------------------------------------------------------------------------------- the scripted world


@dataclass
class Told:
    """What a copy of the script gave out at one step, and the action that it was given there, if any."""

    place: tuple[int, int, int]
    reward: float
    is_first: bool
    is_last: bool
    is_terminal: bool
    action: Any = None


class Script(gym.Env):
    """Shows copy, episode and step, and pays a reward made of these; actions change nothing and are written down.

    Episode e of copy i has ``LENGTHS[(i + e) % 4]`` steps, and a third of all episodes are cut and not terminal.
    """

    LENGTHS = (3, 5, 2, 4)

    def __init__(self, copy: int, action_space: spaces.Space):
        self.observation_space = spaces.Dict({"copy": spaces.Discrete(50), "place": spaces.Box(0, 1e6, (2,))})
        self.action_space, self.copy, self.episode, self.told = action_space, copy, -1, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self._tell(0.0, True, False, False), {}

    def step(self, action: Any) -> tuple[dict, float, bool, bool, dict]:
        self.told[-1].action = np.array(action)
        self.t += 1
        reward = 10.0 * self.copy + self.episode + 0.01 * self.t
        last = self.t == self.LENGTHS[(self.copy + self.episode) % 4]
        terminal = last and (self.copy + self.episode) % 3 > 0
        return self._tell(reward, False, last, terminal), reward, terminal, last and not terminal, {}

    def _tell(self, *rest: Any) -> dict[str, Any]:
        self.told.append(Told((self.copy, self.episode, self.t), *rest))
        return {"copy": self.copy, "place": np.array([self.episode, self.t], np.float32)}


def copies(action_space: spaces.Space) -> tuple[Callable[[], Script], list[Script]]:
    """A function that makes copies 0, 1, 2, ..., and the list of those that it has made."""
    made: list[Script] = []

    def make() -> Script:
        made.append(Script(len(made), action_space))
        return made[-1]

    return make, made


# -------------------------------------------------------------------------------------------------- the recorder


@dataclass
class Act:
    """One call of ``act``: its state as it was given and as it came out, beside what it should have been."""

    first: bool  # whether it was given no state
    generator: Tensor  # the state of the random numbers that it drew from, before it did
    pairs: list[tuple[Any, Any]]  # (what was, what should be)
    action: np.ndarray


@dataclass
class Update:
    """One gradient step. ``pairs`` holds under a name (what was, what should be)."""

    index: np.ndarray  # (B, L, 2) of the steps that were drawn
    batch: dict[str, Tensor]
    pairs: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    returns: list[Tensor] = field(default_factory=list)  # of the dream, and of the replay
    dream: dict[str, Tensor] = field(default_factory=dict)  # by hand
    states: State | None = None  # that were given out
    critics: int = 0  # calls of the critic's loss so far


def draws(generator: torch.Generator) -> torch.Generator:
    """Another generator that will give the same numbers."""
    return torch.Generator(generator.device).set_state(generator.get_state())


def features(deter: Tensor, stoch: Tensor) -> Tensor:
    return torch.cat([deter, stoch.flatten(-2)], -1)


def watch_acts(agent: DreamerV3, greedy: bool = False) -> list[Act]:
    """Note every call of ``act`` from now on; it should continue from what it gave out the time before."""
    acts: list[Act] = []
    act, model, carried = agent.act, agent.world_model, []

    @torch.no_grad()
    def by_hand(obs: dict, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        count, keep = len(obs["is_first"]), 1.0 - torch.from_numpy(obs["is_first"]).float()[:, None]
        zeros = [torch.zeros(count, model.deter_dim), torch.zeros(count, model.stoch_dim)]
        deter, stoch, action = carried or [*zeros, torch.zeros(count, agent.actions.dim)]
        deter = model.cell(deter * keep, stoch * keep, action * keep)
        posterior = model.posterior(deter, model.encoder({k: torch.from_numpy(obs[k]) for k in model.space}))
        stoch = posterior.mode() if greedy else posterior.sample(generator)
        policy = agent.actor(features(deter, stoch))
        return deter, stoch, policy.mode() if greedy else policy.sample(generator)

    def watched(obs: dict, state: Any, **settings: Any) -> tuple[np.ndarray, Any]:
        generator = settings.get("generator") or agent.generator
        begun, other = generator.get_state(), draws(generator)
        deter, stoch, action = by_hand(obs, other)
        given, after = act(obs, state, **settings)
        pairs = [
            (after.latent.deter, deter), (after.latent.stoch, stoch), (after.action, action),
            (torch.from_numpy(given), action), (generator.get_state(), other.get_state()),
        ]  # fmt: skip
        carried[:] = [after.latent.deter.clone(), after.latent.stoch.flatten(1), torch.from_numpy(given.copy())]
        pairs = [(was.clone(), wanted.clone()) for was, wanted in pairs]
        acts.append(Act(state is None, begun, pairs, given.copy()))
        return given, after

    agent.act = watched
    return acts


class Notes:
    """A training on the script, step by step, and all that was seen of it."""

    def __init__(self, config: Config, speed: str, action_space: spaces.Space, steps: int):
        source, _ = copies(action_space)
        self.config, self.updates = config, list[Update]()
        self.trainer = Trainer(config, source, 10_000, seed=1, speed=speed)
        self.agent, self.replay = self.trainer.agent, self.trainer.replay
        self.latents: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # of each (step, copy), the newest
        self.acts = watch_acts(self.agent)
        self._watch_replay(), self._watch_learning()
        self.due = []  # after each step: environment steps so far, records of each copy, updates so far
        for _ in range(steps):
            self.trainer.step()
            self.due.append((self.trainer.progress.steps, self.replay.count, len(self.updates)))
        self.told = [env.unwrapped.told for env in self.trainer.envs.envs]

    def at(self, index: np.ndarray, key: str) -> np.ndarray:
        """What the script says of steps (..., 2): (...)."""
        flat = [getattr(self.told[copy][step], key) for step, copy in index.reshape(-1, 2)]
        return np.array(flat).reshape(*index.shape[:-1], *np.shape(flat[0]))

    def actions(self, index: np.ndarray) -> np.ndarray:
        """The actions that ``act`` gave out at steps (..., 2); none where an episode had ended: (..., A)."""
        flat = [
            self.acts[step].action[copy] * (not self.told[copy][step].is_last) for step, copy in index.reshape(-1, 2)
        ]
        return np.array(flat).reshape(*index.shape[:-1], -1)

    def _watch_replay(self) -> None:
        replay, sample, add = self.replay, self.replay.sample, self.replay.add

        def watched_add(record: dict) -> None:
            deter, stoch = (was.numpy() for was, _ in self.acts[-1].pairs[:2])  # what the agent had after seeing this
            for copy in range(replay.num_envs):
                self.latents[replay.count, copy] = deter[copy], stoch[copy].argmax(-1)
            add(record)

        def watched_sample(batch_size: int) -> dict:
            result = sample(batch_size)
            self.updates.append(Update(result["index"].copy(), {}))
            return result

        replay.add, replay.sample = watched_add, watched_sample

    def _stored(self, index: np.ndarray, which: int) -> np.ndarray:
        flat = [self.latents[step, copy][which] for step, copy in index.reshape(-1, 2)]
        return np.array(flat).reshape(*index.shape[:-1], -1)

    def _watch_learning(self) -> None:
        """Have every function that hands numbers on call a method here first, which notes them in the last update."""
        agent, model, parts = self.agent, self.agent.world_model, self.agent.parts
        self.last = self.config.imagination_last or self.config.seq_len  # starts of dreams in a sequence
        replaced = ("dream", "compute_returns", "actor_loss", "critic_loss")
        self.real = SimpleNamespace(
            train_step=agent.train_step, observe=model.observe, reward_loss=model.reward_loss, kl_loss=model.kl_loss,
            continue_loss=model.cont.loss, **{name: getattr(parts, name) for name in replaced},
        )  # fmt: skip
        agent.train_step, model.observe, model.reward_loss = self._step, self._observe, self._reward_loss
        model.kl_loss, model.cont.loss = self._kl_loss, self._continue_loss
        agent.parts = dataclasses.replace(parts, **{name: getattr(self, f"_{name}") for name in replaced})

    def _step(self, batch: dict[str, Tensor]) -> tuple[State, dict[str, Tensor]]:
        note = self.updates[-1]
        note.batch = {key: value.clone() for key, value in batch.items()}
        for which, key in enumerate(("deter", "stoch")):
            note.pairs[f"stored {key}"] = note.batch[key], self._stored(note.index, which)
        critic, normalizer = self.agent.critic, self.agent.normalizer
        slow, bounds = flat(critic.slow.parameters()), torch.stack([normalizer.low, normalizer.high])
        states, metrics = self.real.train_step(batch)
        note.states = State(states.deter.clone(), states.stoch.clone())
        note.pairs["slow critic"] = (
            flat(critic.slow.parameters()), slow.lerp(flat(critic.head.parameters()), self.config.slow_rate)
        )  # fmt: skip
        now = torch.quantile(note.returns[0].flatten(), torch.tensor([0.05, 0.95]))
        followed = bounds.lerp(now, self.config.return_rate)
        note.pairs["return range"] = torch.stack([normalizer.low, normalizer.high]), followed
        for place, deter, stoch in zip(
            note.index[:, 1:].reshape(-1, 2), note.states.deter.flatten(0, 1), note.states.stoch.flatten(0, 1),
            strict=True,
        ):  # fmt: skip
            self.latents[tuple(place)] = deter.numpy(), stoch.argmax(-1).numpy()
        return states, metrics

    def _observe(self, carry: State, embeds: Tensor, prev: Tensor, is_first: Tensor, generator: torch.Generator) -> Any:
        note, other = self.updates[-1], draws(generator)
        seen = self.agent.world_model.encode({key: note.batch[key][:, 1:] for key in self.agent.world_model.space})
        note.pairs["embeddings"] = embeds.detach(), seen.detach()
        note.pairs["carry deter"] = carry.deter.clone(), note.batch["deter"][:, 0]
        note.pairs["carry stoch"] = carry.stoch.argmax(-1), note.batch["stoch"][:, 0]
        note.pairs["previous actions"] = prev, note.batch["action"][:, :-1]
        note.pairs["beginnings"] = is_first, note.batch["is_first"][:, 1:]
        deter, stoch, logits = self._follow(note.batch, seen, other)
        states, posterior = self.real.observe(carry, embeds, prev, is_first, generator)
        note.pairs["followed deter"] = states.deter.detach(), deter
        note.pairs["followed stoch"] = states.stoch.detach(), stoch
        note.pairs["followed posterior"] = posterior.logits.detach(), logits
        note.pairs["random numbers"] = generator.get_state(), other.get_state()
        note.pairs["whose random numbers"] = generator is self.agent.generator, True
        note.dream = {"deter": deter, "stoch": stoch}
        return states, posterior

    def _reward_loss(self, head: Any, seen: Tensor, rewards: Tensor) -> Tensor:
        note = self.updates[-1]
        note.pairs["features of rewards"] = seen.detach(), features(note.dream["deter"], note.dream["stoch"])
        note.pairs["rewards"] = rewards, note.batch["reward"][:, 1:]
        return self.real.reward_loss(head, seen, rewards)

    def _continue_loss(self, logits: Tensor, is_terminal: Tensor) -> Tensor:
        self.updates[-1].pairs["ends"] = is_terminal, self.updates[-1].batch["is_terminal"][:, 1:]
        return self.real.continue_loss(logits, is_terminal)

    def _kl_loss(self, posterior: Any, prior: Any, free_nats: float) -> dict[str, Tensor]:
        note = self.updates[-1]
        expected = self.agent.world_model.prior(note.dream["deter"]).logits
        note.pairs["prior"] = prior.logits.detach(), expected.detach()
        note.pairs["posterior"] = posterior.logits.detach(), note.pairs["followed posterior"][1]
        return self.real.kl_loss(posterior, prior, free_nats)

    def _dream(
        self, model: Any, actor: Any, starts: State, is_terminal: Tensor, steps: int, generator: torch.Generator
    ) -> Any:
        note, other = self.updates[-1], draws(generator)
        for key, part in zip(("deter", "stoch"), starts, strict=True):
            note.pairs[f"starts {key}"] = part.clone(), note.dream[key][:, -self.last :].flatten(0, 1)
        note.pairs["starts that are ends"] = is_terminal, note.batch["is_terminal"][:, -self.last :].flatten()
        note.pairs["horizon"] = steps, self.config.imagination_horizon
        note.pairs["gradient of starts"] = starts.deter.requires_grad or starts.stoch.requires_grad, False
        note.pairs["whose dream"] = generator is self.agent.generator, True
        wanted = self._by_hand(State(*starts), note.batch["is_terminal"][:, -self.last :].flatten(), other)
        result = self.real.dream(model, actor, starts, is_terminal, steps, generator)
        for key in ("features", "actions"):
            note.pairs[f"dreamed {key}"] = getattr(result, key)[:, :steps].clone(), wanted[key][:, :steps]
        for key in ("rewards", "continues"):
            note.pairs[f"dreamed {key}"] = getattr(result, key).clone(), wanted[key]
        note.pairs["random numbers of dreams"] = generator.get_state(), other.get_state()
        note.dream |= wanted
        return result

    def _compute_returns(
        self, rewards: Tensor, values: Tensor, continues: Tensor, lambda_: float, **more: Any
    ) -> Tensor:
        note = self.updates[-1]
        what = ("dream", "replay")[len(note.returns)]
        steps = {key: value[:, -self.last :] for key, value in note.batch.items()}
        wanted = {key: note.dream[key] for key in ("rewards", "values", "continues")}
        if what == "replay":
            wanted = {
                "rewards": steps["reward"], "values": note.returns[0][:, 0].reshape(-1, self.last),
                "continues": self.config.gamma * (1.0 - steps["is_terminal"].float()),
            }  # fmt: skip
            note.pairs["breaks for returns"] = more.get("last", ()), steps["is_last"]
        for key, value in {"rewards": rewards, "values": values, "continues": continues}.items():
            note.pairs[f"{key} for returns of {what}"] = value.detach().clone(), wanted[key]
        note.pairs[f"lambda of {what}"] = lambda_, self.config.lambda_
        note.returns.append(self.real.compute_returns(rewards, values, continues, lambda_, **more).detach())
        return note.returns[-1].clone()

    def _actor_loss(
        self, log_probs: Tensor, entropies: Tensor, returns: Tensor, values: Tensor, scale: Tensor, weights: Tensor,
        coefficient: float,
    ) -> Tensor:  # fmt: skip
        note, normalizer = self.updates[-1], self.agent.normalizer
        running = note.dream["continues"][:, :-1].cumprod(1)
        wanted = {
            "log_probs": note.dream["log_probs"], "entropies": note.dream["entropies"], "returns": note.returns[0],
            "values": note.dream["values"][:, :-1], "weights": running,
            "scale": (normalizer.high - normalizer.low).clamp(min=normalizer.floor),
        }  # fmt: skip
        given = dict(
            log_probs=log_probs, entropies=entropies, returns=returns, values=values, weights=weights, scale=scale
        )
        note.pairs |= {f"actor's {key}": (given[key].detach().clone(), wanted[key].clone()) for key in wanted}
        note.pairs["entropy_coef"] = coefficient, self.config.entropy_coef
        return self.real.actor_loss(log_probs, entropies, returns, values, scale, weights, coefficient)

    def _critic_loss(
        self, critic: Any, logits: Tensor, returns: Tensor, slow: Tensor, weights: Tensor, coefficient: float = 1.0
    ) -> Tensor:
        note = self.updates[-1]
        what, note.critics = ("dream", "replay")[note.critics], note.critics + 1
        running = note.dream["continues"][:, :-1].cumprod(1)
        wanted = {"logits": note.dream["logits"], "slow": note.dream["slow values"], "weights": running}
        if what == "replay":
            with torch.no_grad():
                seen = features(note.dream["deter"], note.dream["stoch"])[:, -self.last :][:, :-1]
                wanted = {"logits": critic(seen), "slow": critic.slow_value(seen)}
            wanted["weights"] = 1.0 - note.batch["is_last"][:, -self.last :][:, :-1].float()
        wanted["returns"] = note.returns[-1]
        given = dict(logits=logits, returns=returns, slow=slow, weights=weights)
        note.pairs |= {f"critic's {key}, {what}": (given[key].detach().clone(), wanted[key]) for key in wanted}
        note.pairs[f"slow_critic_coef, {what}"] = coefficient, self.config.slow_critic_coef
        return self.real.critic_loss(critic, logits, returns, slow, weights, coefficient)

    @torch.no_grad()
    def _follow(self, batch: dict[str, Tensor], seen: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Deter, stoch and posterior logits of steps 1 .. T of a batch, by hand."""
        model, rows = self.agent.world_model, []
        deter = batch["deter"][:, 0]
        stoch = torch.nn.functional.one_hot(batch["stoch"][:, 0].long(), model.classes).float().flatten(1)
        for t in range(1, batch["deter"].shape[1]):
            keep = 1.0 - batch["is_first"][:, t].float()[:, None]
            deter = model.cell(deter * keep, stoch * keep, batch["action"][:, t - 1] * keep)
            posterior = model.posterior(deter, seen[:, t - 1])
            stoch = posterior.sample(generator)
            rows.append((deter, stoch, posterior.logits))
            stoch = stoch.flatten(1)
        return tuple(torch.stack(column, 1) for column in zip(*rows, strict=True))

    @torch.no_grad()
    def _by_hand(self, starts: State, is_terminal: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """A dream by hand: features, actions, rewards, continues, and what actor and critic say of it."""
        model, agent, rows = self.agent.world_model, self.agent, []
        deter, stoch = starts
        for t in range(self.config.imagination_horizon + 1):
            if t:
                deter = model.cell(deter, stoch.flatten(1), rows[-1][1])
                stoch = model.prior(deter).sample(generator)
            rows.append((features(deter, stoch), agent.actor(features(deter, stoch)).sample(generator)))
        seen, actions = (torch.stack(column, 1) for column in zip(*rows, strict=True))
        continues = model.cont.mean(model.cont(seen))
        continues[:, 0] = 1.0 - is_terminal.float()
        policy = agent.actor(seen[:, :-1])
        return {
            "features": seen, "actions": actions, "rewards": model.reward.mean(model.reward(seen)),
            "continues": continues, "values": agent.critic.mean(agent.critic(seen)),
            "log_probs": policy.log_prob(actions[:, :-1]), "entropies": policy.entropy(),
            "logits": agent.critic(seen[:, :-1]), "slow values": agent.critic.slow_value(seen[:, :-1]),
        }  # fmt: skip


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def same(what: str, was: Any, wanted: Any, atol: float = 1e-4) -> None:
    """Raise AssertionError unless two values are equal to what single precision makes of a dozen steps."""
    was, wanted = (torch.as_tensor(value) for value in (was, wanted))
    assert was.shape == wanted.shape, f"{what}: shape {tuple(was.shape)}, not {tuple(wanted.shape)}"
    close = torch.isclose(was.double(), wanted.double(), rtol=10 * atol, atol=atol)
    assert close.all(), f"{what}: {was[~close].flatten()[0]}, not {wanted[~close].flatten()[0]}"


LEVERS, DIALS = spaces.Discrete(3), spaces.Box(-2, 2, (2,))
CASES = {
    "readable": (dict(imagination_last=2, train_ratio=4.0), "readable", LEVERS),
    "fast": (dict(imagination_last=3, train_ratio=2.0), "fast", LEVERS),
    "dials": (dict(imagination_last=0, train_ratio=2.0, replay_capacity=60), "fast", DIALS),  # the ring goes round
}
"""Each way of computing, with starts of dreams fewer than steps and as many, and both kinds of actions."""


RECORDS = 40
"""Of each copy, in a training."""


@pytest.fixture(scope="module", params=[slow("readable"), "fast", slow("dials")])
def notes(request: pytest.FixtureRequest) -> Iterator[Notes]:
    """A training of so many records of each copy; it has updates with starts at the end of an episode and behind it."""
    settings, speed, actions = CASES[request.param]
    result = Notes(dataclasses.replace(TINY, warmup=0, **settings), speed, actions, RECORDS)
    assert len(result.updates) > 10
    yield result


# ------------------------------------------------------------------------------------------ acting, remembering


def test_every_action_is_a_sample_and_continues_from_the_last(notes: Notes) -> None:
    """The state is that which ``act`` gave out before, with the action that it gave out, or zeros where one begins."""
    assert [act.first for act in notes.acts] == [True] + [False] * (RECORDS - 1)
    for number, act in enumerate(notes.acts):
        for what, (was, wanted) in zip(
            ("deter", "stoch", "kept action", "action", "random numbers"), act.pairs, strict=True
        ):
            same(f"{what} of call {number}", was, wanted)


def test_the_world_is_given_the_actions_that_the_agent_chose(notes: Notes) -> None:
    """In its own units, and none at the last step of an episode."""
    decode = notes.agent.actions.decode
    for copy, told in enumerate(notes.told):
        for step, entry in enumerate(told[:-1]):  # behind the last, nothing has happened yet
            assert (entry.action is None) == entry.is_last
            if not entry.is_last:
                same(f"action of copy {copy}, step {step}", entry.action, decode(notes.acts[step].action[copy]))


def test_every_column_of_the_replay_is_what_happened(notes: Notes) -> None:
    replay = notes.replay
    oldest = max(0, replay.count - replay.rows)
    steps = np.arange(oldest, replay.count)
    index = np.stack(np.meshgrid(steps, np.arange(replay.num_envs), indexing="ij"), -1)
    data = {key: values[steps % replay.rows] for key, values in replay.data.items()}
    wanted = {key: notes.at(index, key) for key in ("reward", "is_first", "is_last", "is_terminal")}
    places = notes.at(index, "place")
    wanted |= {"copy": places[..., :1], "place": places[..., 1:], "action": notes.actions(index)}
    wanted |= {key: notes._stored(index, which) for which, key in enumerate(("deter", "stoch"))}
    assert set(data) == set(wanted)
    for key, values in wanted.items():
        same(key, data[key], values.astype(data[key].dtype))
    assert wanted["is_terminal"].any()
    assert (wanted["is_last"] & ~wanted["is_terminal"]).any()
    if notes.agent.actions.discrete:
        np.testing.assert_array_equal(data["action"].sum(-1), 1.0 - wanted["is_last"])
    assert not data["action"][wanted["is_last"]].any()


def test_as_many_updates_as_the_train_ratio_asks_for(notes: Notes) -> None:
    """One when there is a sequence and a batch; then so many replayed steps for each that is made."""
    config, begun = notes.config, None
    for steps, records, updates in notes.due:
        ready = records > config.seq_len and records * config.num_envs >= config.batch_size * config.seq_len
        begun = steps if ready and begun is None else begun
        wanted = 0 if begun is None else 1 + (steps - begun) * config.train_ratio / (config.batch_size * config.seq_len)
        assert updates == int(wanted)
        assert steps == sum(not entry.is_first for told in notes.told for entry in told[: records + 1])


# ----------------------------------------------------------------------------------------------- what is drawn


def test_batches_are_pieces_of_what_happened(notes: Notes) -> None:
    for note in notes.updates:
        assert (np.diff(note.index[..., 0], axis=1) == 1).all()
        assert (note.index[..., 1] == note.index[:, :1, 1]).all()
        places = notes.at(note.index, "place")
        wanted = {key: notes.at(note.index, key) for key in ("reward", "is_first", "is_last", "is_terminal")}
        wanted["is_first"][:, 0] = True
        wanted |= {"copy": places[..., :1], "place": places[..., 1:], "action": notes.actions(note.index)}
        for key, values in wanted.items():
            same(key, note.batch[key], values)


def check(notes: Notes, *names: str, atol: float = 1e-4) -> None:
    """Compare in every update what stands under these names."""
    for number, note in enumerate(notes.updates):
        for name in names:
            same(f"{name}, update {number}", *note.pairs[name], atol)


def test_latents_are_refreshed_by_those_of_the_same_step(notes: Notes) -> None:
    """What a batch has in store for a step is the newest that an update, or else acting, made of just that step."""
    check(notes, "stored deter", "stored stoch")
    touched = np.concatenate([note.index[:, 1:].reshape(-1, 2) for note in notes.updates])
    again = np.concatenate([note.index.reshape(-1, 2) for note in notes.updates[5:]])
    assert len({tuple(i) for i in touched} & {tuple(i) for i in again}) > 20  # so there was something to compare


def test_a_sequence_is_followed_from_its_context(notes: Notes) -> None:
    check(notes, "carry deter", "carry stoch", "previous actions", "beginnings", "embeddings")
    check(notes, "followed deter", "followed stoch", "followed posterior", "random numbers", "whose random numbers")
    assert any(note.batch["is_first"][:, 1:].any() for note in notes.updates)
    for note in notes.updates:
        same("states given out", note.states.deter, note.pairs["followed deter"][1])
        same("latents given out", note.states.stoch, note.pairs["followed stoch"][1])


def test_the_world_model_learns_from_the_steps_that_were_followed(notes: Notes) -> None:
    check(notes, "features of rewards", "rewards", "ends", "prior", "posterior")


# --------------------------------------------------------------------------------------------------- dreams


def test_dreams_begin_at_the_last_states_of_each_sequence(notes: Notes) -> None:
    """In the order (B, K), each with its own end, and without a gradient."""
    check(notes, "starts deter", "starts stoch", "starts that are ends", "gradient of starts", "horizon")
    assert any(note.pairs["starts that are ends"][1].any() for note in notes.updates)


def test_dreams_are_what_actor_and_model_make_of_their_starts(notes: Notes) -> None:
    check(notes, "dreamed features", "dreamed actions", "dreamed rewards", "dreamed continues")
    check(notes, "random numbers of dreams", "whose dream")


def test_actor_and_critic_learn_from_the_dream(notes: Notes) -> None:
    check(notes, *(f"{key} for returns of dream" for key in ("rewards", "values", "continues")), "lambda of dream")
    check(notes, *(f"actor's {key}" for key in ("log_probs", "entropies", "returns", "values", "weights", "scale")))
    check(notes, *(f"critic's {key}, dream" for key in ("logits", "returns", "slow", "weights")))
    check(notes, "entropy_coef", "slow_critic_coef, dream")


def test_the_critic_learns_from_the_steps_on_which_the_dreams_began(notes: Notes) -> None:
    check(notes, *(f"{key} for returns of replay" for key in ("rewards", "values", "continues")), "lambda of replay")
    check(notes, *(f"critic's {key}, replay" for key in ("logits", "returns", "slow", "weights")))
    check(notes, "breaks for returns", "slow_critic_coef, replay")


def test_the_range_of_returns_follows_once_an_update(notes: Notes) -> None:
    check(notes, "return range")
    largest = max(note.batch["reward"][:, 1:].abs().max().item() for note in notes.updates)
    assert notes.agent.normalizer.floor == pytest.approx(notes.config.return_floor * largest)


# --------------------------------------------------------------------------------------------------- weights


def test_the_slow_critic_follows_behind_each_update(notes: Notes) -> None:
    check(notes, "slow critic", atol=1e-7)  # it moves by a hundredth of what the critic moves


@pytest.mark.parametrize("variants", [(), ("three_adams",)], ids=["laprop", "adam"])
@pytest.mark.parametrize("rates", [(0.01, 0.002, 0.0004), (0.01, 0.0, 0.0)], ids=["apart", "one for all"])
def test_each_net_has_its_learning_rate(variants: tuple[str, ...], rates: tuple[float, ...]) -> None:
    """The first step of LaProp, and of Adam, moves every weight by the learning rate, whatever its gradient."""
    named = dict(zip(("learning_rate", "actor_learning_rate", "critic_learning_rate"), rates, strict=True))
    loud = dict(value_init_scale=1.0, actor_init_scale=1.0, entropy_coef=100.0)  # for gradients far from 0
    config = dataclasses.replace(TINY, warmup=0, gradient_clip=1e9, adam_eps=1e-20, variants=variants, **loud, **named)
    agent = DreamerV3(config, spaces.Box(-1, 1, (3,)), LEVERS)
    before = {name: p.detach().clone() for name, p in agent.named_parameters()}
    agent.train_step(make_batch(config, agent.observation_space, LEVERS))
    model, actor, critic = (rate or rates[0] for rate in rates)
    wanted = {"world_model": model, "actor": actor, "critic.head": critic}
    for prefix, rate in wanted.items():
        moved = [
            (p.detach() - before[name]).abs().max() for name, p in agent.named_parameters() if name.startswith(prefix)
        ]
        assert max(moved).item() == pytest.approx(rate, rel=0.02), prefix
    still = {name for name, p in agent.named_parameters() if torch.equal(p, before[name])}
    assert not {name for name in still if not name.startswith("critic.slow")}


def test_each_loss_counts_by_its_scale() -> None:
    scales = {"dyn": 0.7, "rep": 0.3, "replay_critic": 0.45}
    config = dataclasses.replace(TINY, kl_coef=0.7, rep_coef=0.3, replay_critic_coef=0.45)
    agent = DreamerV3(config, spaces.Box(-1, 1, (3,)), LEVERS)
    total, _, metrics = agent.loss(make_batch(config, agent.observation_space, LEVERS))
    losses = {name.removeprefix("loss/"): value for name, value in metrics.items() if name.startswith("loss/")}
    assert set(losses) == {"vector", "reward", "continue", "dyn", "rep", "actor", "critic", "replay_critic"}
    assert total.item() == pytest.approx(sum(scales.get(name, 1.0) * value.item() for name, value in losses.items()))


# ------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("greedy", [True, False])
def test_an_evaluation_plays_worlds_of_its_own(greedy: bool) -> None:
    """Greedily if asked, from no state, by random numbers of its own, and counting whole episodes only."""
    source, made = copies(LEVERS)
    agent = DreamerV3(TINY, source().observation_space, LEVERS)
    before, mine = flat(agent.parameters()), agent.generator.get_state()
    acts = watch_acts(agent, greedy)
    returns = evaluate(agent, source, 55, seed=3, greedy=greedy)
    assert torch.equal(before, flat(agent.parameters()))
    assert torch.equal(mine, agent.generator.get_state())
    assert torch.equal(acts[0].generator, torch.Generator().manual_seed(3).get_state())
    assert [act.first for act in acts] == [True] + [False] * (len(acts) - 1)
    for act in acts:
        for was, wanted in act.pairs:
            same("evaluation", was, wanted)
    wanted = []
    for number, world in enumerate(made[1:]):  # the first was made to read its spaces
        episodes = 3 if number < 5 else 2
        wanted += [sum(t.reward for t in world.told if t.place[1] == episode) for episode in range(episodes)]
        assert not any(t.action is None for t in world.told[:-1] if not t.is_last)
    assert returns == pytest.approx(wanted)


# ------------------------------------------------------------------------------------------- looking into dreams


@pytest.mark.parametrize("greedy", [True, False])
def test_a_recorded_episode_is_what_was_played(greedy: bool) -> None:
    source, made = copies(LEVERS)
    agent = DreamerV3(TINY, source().observation_space, LEVERS)
    acts = watch_acts(agent, greedy)
    episode = dreams.record_episode(agent, source, seed=3, greedy=greedy)
    assert torch.equal(acts[0].generator, torch.Generator().manual_seed(3).get_state())
    for act in acts:
        for was, wanted in act.pairs:
            same("recorded episode", was, wanted)
    told = made[1].told
    assert len(episode) == len(told) == Script.LENGTHS[1] + 1
    same("copies", episode.obs["copy"][:, 0], [entry.place[0] for entry in told])
    same("places", episode.obs["place"], [entry.place[1:] for entry in told])
    same("actions", episode.action, np.concatenate([act.action for act in acts]))
    for key in ("reward", "is_first", "is_terminal"):
        same(key, getattr(episode, key), np.array([getattr(entry, key) for entry in told], np.float32))


def test_a_dream_beside_reality_is_given_the_same_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it looks, those before each step; then those from the last step seen on. A dream alone acts by itself."""
    source, _ = copies(LEVERS)
    agent = DreamerV3(TINY, source().observation_space, LEVERS)
    episode = dreams.record_episode(agent, source, greedy=False)
    model, seen, dreamed = agent.world_model, [], []
    observe, imagine = model.observe, model.imagine

    def watched_observe(carry: State, embeds: Tensor, previous: Tensor, *rest: Any) -> Any:
        seen[:] = carry.deter, embeds, previous, *rest
        return observe(carry, embeds, previous, *rest)

    def watched_imagine(start: State, policy: Any, horizon: int, generator: torch.Generator) -> Any:
        states, actions = imagine(start, policy, horizon, generator)
        dreamed[:] = start, actions
        return states, actions

    monkeypatch.setattr(model, "observe", watched_observe)
    monkeypatch.setattr(model, "imagine", watched_imagine)
    assert len(episode) == 6
    pair = dreams.open_loop(agent, episode, 2)
    shown = {key: torch.from_numpy(value[None, :2]) for key, value in episode.obs.items()}
    same("context", seen[0], torch.zeros(1, TINY.rnn_hidden_dim))
    same("embeddings", seen[1], model.encode(shown))
    same("previous actions", seen[2], np.stack([np.zeros(3), episode.action[0]])[None])
    same("beginnings", seen[3].float(), [[1.0, 0.0]])
    same("actions of the dream", dreamed[1], episode.action[None, 1:])
    assert len(pair.real) == len(pair.dreamed) == len(pair.reward) == len(pair.goes_on) == 6
    alone = dreams.dream_on(agent, episode, 2, horizon=4)
    assert (len(alone.real), len(alone.dreamed)) == (3, 5)
    same("previous actions", seen[2], np.concatenate([np.zeros((1, 3)), episode.action[:2]])[None])
    same("one action a step", dreamed[1].sum(-1), torch.ones(1, 5))


def test_who_plays_in_a_dream_is_known_to_have_stood_still_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent that watches believes what was done in the world, and not what it would have done itself."""
    world = worlds.Catch()
    agent = DreamerV3(TINY, world.observation_space, world.action_space)
    act, moves, imagined = agent.act, [], []

    def watched_act(record: dict, state: Any, **settings: Any) -> Any:
        moves.append(None if state is None else state.action.argmax().item())
        return act(record, state, **settings)

    def watched_step(state: State, action: Tensor, is_first: Tensor) -> Tensor:
        imagined.append(action.argmax().item())
        return dynamics_step(state, action, is_first)

    monkeypatch.setattr(agent, "act", watched_act)
    player = DreamPlayer(agent, "dreamer_helpers/Catch-v0", buttons={"stay": 1}, stay=1, context=4)
    dynamics_step = agent.world_model.dynamics_step
    monkeypatch.setattr(agent.world_model, "dynamics_step", watched_step)
    player.play([2, 0, 1])
    assert moves == [None, 1, 1, 1]
    assert imagined == [2, 0, 1]
