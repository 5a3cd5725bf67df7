"""The train step runs on whatever device it is put on: no tensors of two devices meet, and the host never waits.

Shown without a GPU: on the ``meta`` device tensors have shapes and no values, so reading one raises. Meta alone lets
some mixtures of devices pass (matrix products, gathers, convolutions), hence the mode that compares devices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from dreamer_helpers import actor_critic, device, dreams, fast
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.config import preset
from dreamer_helpers.errors import UserError
from dreamer_helpers.evaluate import evaluate
from dreamer_helpers.parts import Parts
from dreamer_helpers.trainer import Progress
from dreamer_helpers.widgets import DreamPlayer, TrainingDashboard
from helpers import make_batch, slow

SMALL = dict(rnn_hidden_dim=16, blocks=2, hidden_dim=16, cnn_depth=4, batch_size=2, seq_len=4, imagination_last=2)
SPACES = {
    "vector, discrete": (spaces.Box(-1, 1, (3,)), spaces.Discrete(2)),
    "vector, continuous": (spaces.Box(-1, 1, (3,)), spaces.Box(-2, 2, (2,))),
    "pixels, discrete": (spaces.Box(0, 255, (16, 16, 3), "uint8"), spaces.MultiDiscrete([2, 3])),
    "pixels, continuous": (spaces.Box(0, 255, (16, 16, 3), "uint8"), spaces.Box(-1, 1, (1,))),
    "everything": (
        spaces.Dict({
            "camera": spaces.Box(0, 255, (16, 16, 3), "uint8"), "speed": spaces.Box(-1, 1, (2,)),
            "gear": spaces.Discrete(4),
        }),
        spaces.Discrete(2),
    ),
}  # fmt: skip


class OneDevice(TorchDispatchMode):
    """Raises when one operation gets tensors of two devices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        assert len(devices) <= 1, f"{func} got tensors of {sorted(map(str, devices))}"
        return func(*args, **(kwargs or {}))


def step_on_meta(
    kind: str, parts: Parts | None = None, name: str = "cpu", *, accelerated: bool = False, **overrides: Any
) -> DreamerV3:
    observation_space, action_space = SPACES[kind]
    config = preset(name, **{**SMALL, **overrides})
    agent = DreamerV3(config, observation_space, action_space, parts, device="meta")
    if accelerated:
        fast.accelerate(agent)
    batch = make_batch(agent.config, agent.observation_space, action_space)
    batch = {key: value.to("meta") for key, value in batch.items()}
    with OneDevice():
        states, metrics = agent.train_step(batch)
    assert all(p.device.type == "meta" for p in agent.parameters())
    assert {value.device.type for value in (*states, *metrics.values())} == {"meta"}
    return agent


@pytest.mark.parametrize("accelerated", [slow(False), True], ids=["readable", "accelerated"])
@pytest.mark.parametrize("kind", SPACES)
def test_train_step_stays_on_its_device(kind: str, accelerated: bool) -> None:
    step_on_meta(kind, accelerated=accelerated)


@pytest.mark.parametrize("kind", ["vector, discrete", slow("pixels, continuous")])
@pytest.mark.parametrize("name", ["default", slow("card"), slow("v2023")])
@pytest.mark.parametrize("accelerated", [slow(False), True], ids=["readable", "accelerated"])
def test_train_step_of_each_preset_stays_on_its_device(kind: str, name: str, accelerated: bool) -> None:
    step_on_meta(kind, name=name, accelerated=accelerated, num_categories=4, num_categoricals=4)


def test_a_planted_read_is_found() -> None:
    def reads(*args: Any, **kwargs: Any) -> torch.Tensor:
        loss = actor_critic.actor_loss(*args, **kwargs)
        return loss * loss.mean().item()

    with pytest.raises(RuntimeError, match="item"):
        step_on_meta("vector, discrete", Parts(actor_loss=reads))


@pytest.mark.parametrize("planted", [torch.ones(()), torch.ones(2 * 2, 15)], ids=["scalar", "matrix"])
def test_a_planted_cpu_tensor_is_found(planted: torch.Tensor) -> None:
    def mixes(*args: Any, **kwargs: Any) -> torch.Tensor:
        return actor_critic.actor_loss(*args, **kwargs) * planted

    with pytest.raises(AssertionError, match="cpu"):
        step_on_meta("vector, discrete", Parts(actor_loss=mixes))


def test_a_cpu_tensor_that_meta_would_let_pass_is_found() -> None:
    """A matrix product with a CPU tensor: the meta device alone does not mind."""
    meta, cpu = torch.ones(2, 3, device="meta"), torch.ones(3, 2)
    with pytest.raises(AssertionError, match="cpu"), OneDevice():
        torch.mm(meta, cpu)


class Sketch(gymnasium.Env):
    """Grey pictures and a speed; ends after seven steps."""

    def __init__(self, discrete: bool = True) -> None:
        entries = {"image": spaces.Box(0, 255, (16, 16, 3), "uint8"), "speed": spaces.Box(-1, 1, (2,))}
        self.observation_space = spaces.Dict(entries)
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict]:
        self.t = 0
        return self._look(), {}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict]:
        self.t += 1
        return self._look(), 1.0, self.t == 7, False, {}

    def _look(self) -> dict[str, np.ndarray]:
        return {"image": np.full((16, 16, 3), self.t, np.uint8), "speed": np.zeros(2, np.float32)}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], DreamerV3]:
    """Makes an agent whose device is not the host's. What the host asks of it comes back as zeros, counted."""
    reads: list[str] = []

    def read(tensor: torch.Tensor) -> torch.Tensor:
        reads.append(tensor.device.type)
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    def make(discrete: bool = True) -> DreamerV3:
        world = Sketch(discrete)
        agent = DreamerV3(preset("cpu", **SMALL), world.observation_space, world.action_space, device="meta")
        agent.reads = reads
        return agent

    monkeypatch.setattr(torch.Tensor, "cpu", read)
    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: read(tensor).flatten().tolist()[0])
    return make


@pytest.mark.parametrize("discrete", [True, slow(False)], ids=["discrete", "continuous"])
def test_dreams_stay_on_the_device_of_the_agent(elsewhere: Any, discrete: bool) -> None:
    agent, world = elsewhere(discrete), partial(Sketch, discrete)
    with OneDevice():
        evaluate(agent, world, 1)
        episode = dreams.record_episode(agent, world)
        loop = dreams.open_loop(agent, episode, 2)
        night = dreams.dream_on(agent, episode, 2, 4)
    assert len(loop.dreamed) == len(episode) == 8 and len(night.dreamed) == 5
    assert loop.reward.shape == (8,)
    assert set(agent.reads) == {"meta"}


@pytest.mark.slow
def test_widgets_stay_on_the_device_of_the_agent(elsewhere: Any) -> None:
    agent = elsewhere()
    with OneDevice():
        player = DreamPlayer(agent, Sketch, buttons={"left": 0})
        player.play([0, 1, 2, 2, 2])
        player.restart(3)
        player.play([1])
        board = TrainingDashboard(agent.config, Sketch, 100)
        progress = Progress(agent, None, 100, steps=50, log=[{"steps": 50, "loss/dyn": 1.0}])
        board._begin(progress), board._update(progress)
    assert (player.steps == 1 and not player.awake) or player.returns[0] == 1
    assert board.dream is not None, board.text.value
    assert board.still()
    assert set(agent.reads) == {"meta"}


def test_a_planted_cpu_action_is_found_in_dreams(elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    episode = dreams.record_episode(agent := elsewhere(), Sketch)
    planted = torch.from_numpy(episode.action)
    with OneDevice(), pytest.raises(AssertionError, match="cpu"):
        agent.world_model.imagine(agent.world_model.initial(1), lambda _: planted[:1], 1)


def test_select_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DREAMER_DEVICE", raising=False)
    assert device.select_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.select_device() == torch.device("cpu")
    monkeypatch.setenv("DREAMER_DEVICE", "cuda")
    for wrong, words in (("cuda", "no CUDA"), ("mps", "Apple"), ("gpu", "there are cpu"), ("cuda:x", "no device")):
        with pytest.raises(UserError, match=words):
            device.select_device(wrong)
    with pytest.raises(UserError, match="no CUDA"):  # named by the variable: never silently replaced
        device.select_device()


def test_precision_names() -> None:
    with device.precision(torch.device("cpu"), "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with pytest.raises(UserError, match="float32, bfloat16"):
        device.precision(torch.device("cpu"), "half")


@pytest.mark.parametrize(("amx", "chosen"), [(False, "medium"), (True, "highest")])
def test_fast_products_are_not_to_be_had_where_they_would_mean_bfloat16(
    amx: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    try:
        device.set_threads(1, fast_products=True)
        assert torch.get_float32_matmul_precision() == chosen
        device.set_threads(1)
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_training_leaves_the_precision_of_products_alone() -> None:
    """Also half a gradient step, of one weight alone, and one that fails."""
    before = torch.get_float32_matmul_precision()
    agent = fast.accelerate(DreamerV3(preset("cpu", **SMALL), spaces.Box(-1, 1, (3,)), spaces.Discrete(2)))
    batch = make_batch(agent.config, agent.observation_space, spaces.Discrete(2))
    try:
        for chosen in ("medium", "highest"):
            torch.set_float32_matmul_precision(chosen)
            agent.train_step(batch)
            total, *_ = agent.loss(batch)
            torch.autograd.grad(total, agent.world_model.posterior_net[1].weight)
            assert torch.get_float32_matmul_precision() == chosen
    finally:
        torch.set_float32_matmul_precision(before)


class Tape(TorchDispatchMode):
    """Stands in for a CUDA graph: records which operations on which tensors a step amounts to, and plays them back.

    As with a graph, whatever Python did beside (counting updates, say) is not played back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, outputs))
        return outputs

    @torch.no_grad()
    def play(self) -> None:
        """Do all operations again; each output takes the place of what was put out when it was recorded."""
        now: dict[int, Any] = {}

        def today(value: Any) -> Any:
            return now.get(id(value), value)

        for func, args, kwargs, outputs in self.operations:
            results = func(*tree_map(today, args), **tree_map(today, kwargs))
            now |= {
                id(old): new
                for old, new in zip(tree_leaves(outputs), tree_leaves(results), strict=True)
                if isinstance(old, torch.Tensor)
            }
        for leaf in tree_leaves(self.results):
            leaf.copy_(today(leaf))

    @staticmethod
    def record_for(agent: DreamerV3) -> Any:
        """A way to record that leaves the agent as it was, as a CUDA graph does."""

        def record(work: Any, generator: torch.Generator) -> tuple[Any, Any]:
            assert generator is agent.generator
            tensors = tree_leaves([agent.state_dict(), agent.optimizer.state_dict()])
            kept = [(t, t.clone()) for t in tensors if isinstance(t, torch.Tensor)]
            random, tape = agent.generator.get_state(), Tape()
            with tape:
                tape.results = work()
            agent.generator.set_state(random)
            for tensor, before in kept:
                tensor.copy_(before)
            return tape.play, tape.results

        return record


def make_agent(kind: str, **overrides: Any) -> tuple[DreamerV3, list[dict[str, torch.Tensor]]]:
    observation_space, action_space = SPACES[kind]
    agent = DreamerV3(preset("cpu", **{**SMALL, **overrides}), observation_space, action_space)
    batches = [make_batch(agent.config, agent.observation_space, action_space) for _ in range(7)]
    return fast.accelerate(agent), batches


@pytest.mark.parametrize("kind", [slow("vector, continuous"), "everything"])
@pytest.mark.parametrize(
    "settings",
    [{}, slow({"return_floor_relative": False, "convolution": "pooled", "cnn_kernel": 5})],
    ids=["cpu", "pooled"],
)
def test_a_recorded_step_is_the_step(kind: str, settings: dict[str, Any]) -> None:
    """Nothing that changes from update to update is held by Python, where a graph would not see it."""
    settings = {"num_categories": 4, "num_categoricals": 4, **settings}
    agent, batches = make_agent(kind, **settings)
    eager = [agent.train_step(batch) for batch in batches]
    twin, _ = make_agent(kind, **settings)
    recorded = fast.RecordedStep(twin.train_step, twin.generator, Tape.record_for(twin))
    played = [recorded(batch) for batch in batches]
    assert recorded.play is not None
    for one, other in zip(tree_leaves(eager), tree_leaves(played), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(agent.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_test_of_recording_finds_what_python_counts() -> None:
    """Planted: a step whose numbers depend on a count that Python keeps."""
    count = [0]

    def step(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        count[0] += 1
        return (batch["x"] * count[0],)

    agent, _ = make_agent("vector, discrete")
    recorded = fast.RecordedStep(step, agent.generator, Tape.record_for(agent))
    results = [recorded({"x": torch.ones(())})[0].item() for _ in range(6)]
    assert results[:3] == [1, 2, 3]
    assert results[4:] != [5, 6]


def test_a_step_that_cannot_be_recorded_goes_on_as_it_is() -> None:
    def record(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    recorded = fast.RecordedStep(lambda batch: batch["x"] + 1, torch.Generator(), record)
    with pytest.warns(UserWarning, match="cannot be recorded.*not permitted") as warned:
        results = [recorded({"x": torch.tensor(float(i))}).item() for i in range(6)]
    assert results == [1, 2, 3, 4, 5, 6]
    assert len(warned) == 1


def test_speed_is_one_word_and_what_is_not_there_is_told() -> None:
    agent, batches = make_agent("vector, discrete")
    with pytest.warns(UserWarning, match="needs a CUDA device, not cpu"):
        assert fast.accelerate(agent, "graph") is agent
    agent.train_step(batches[0])
    with pytest.raises(UserError, match="did you mean 'graph'"):
        fast.accelerate(agent, "graf")
    agent.__class__ = type("Mine", (DreamerV3,), {})
    with pytest.warns(UserWarning, match="Mine goes on with 'fast'"):
        fast.accelerate(agent, "compile")


def test_a_recorded_step_draws_from_the_generator_of_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CUDA device its state is the graph's to advance."""
    registered = []

    class Graph:
        def register_generator_state(self, generator: torch.Generator) -> None:
            registered.append(generator)

        def replay(self) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: nullcontext())
    generator = torch.Generator()
    assert fast.record_cuda(lambda: 7, generator)[1] == 7
    assert registered == [generator]


def test_compile_that_fails_is_told_once_and_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: Any, **settings: Any) -> Any:
        def call(*arguments: Any) -> Any:
            raise RuntimeError("no compiler found")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    function = fast.compiled(lambda x: x + 1)
    with pytest.warns(UserWarning, match="no compiler found") as warned:
        assert [function(1), function(2)] == [2, 3]
    assert len(warned) == 1


@pytest.mark.slow  # most of it is torch reading our Python
def test_a_compiled_loss_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followed by torch.compile's front end, without a code generator: the same numbers, and no falling back."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    settings = {"imagination_horizon": 1, "seq_len": 2, "mlp_layers": 1, "prior_layers": 1}
    agent, batches = make_agent("vector, discrete", **settings)
    expected = [agent.train_step(batch)[1] for batch in batches[:1]]
    twin, _ = make_agent("vector, discrete", **settings)
    fast.accelerate(twin, "compile")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "torch.compile failed")
        got = [twin.train_step(batch)[1] for batch in batches[:1]]
    for one, other in zip(tree_leaves(expected), tree_leaves(got), strict=True):
        torch.testing.assert_close(one, other)


def test_a_loaded_agent_records_anew(tmp_path: Any) -> None:
    agent, batches = make_agent("vector, discrete")
    agent.train_step(batches[0])
    agent.save(tmp_path / "agent.safetensors")
    learned = agent._recorded = fast.RecordedStep(agent.update, agent.generator, Tape.record_for(agent))
    agent.load(tmp_path / "agent.safetensors")
    assert agent._recorded is not learned
    assert [group["updates"].item() for group in agent.optimizer.param_groups] == [1, 1, 1]
