"""The train step runs on whatever device it is put on: no tensors of two devices meet, and the host never waits.

Shown without a GPU: on the ``meta`` device tensors have shapes and no values, so reading one raises. Meta alone lets
some mixtures of devices pass (matrix products, gathers, convolutions), hence the mode that compares devices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreamer_helpers import actor_critic, device, fast
from dreamer_helpers.config import preset
from dreamer_helpers.errors import UserError
from dreamer_helpers.train import DreamerV3, Parts
from helpers import make_batch

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


def step_on_meta(kind: str, parts: Parts | None = None, name: str = "cpu", **overrides: Any) -> DreamerV3:
    observation_space, action_space = SPACES[kind]
    config = preset(name, **{**SMALL, **overrides})
    agent = DreamerV3(config, observation_space, action_space, parts, device="meta")
    batch = make_batch(agent.config, agent.observation_space, action_space)
    batch = {key: value.to("meta") for key, value in batch.items()}
    with OneDevice():
        states, metrics = agent.train_step(batch)
    assert all(p.device.type == "meta" for p in agent.parameters())
    assert {value.device.type for value in (*states, *metrics.values())} == {"meta"}
    return agent


@pytest.mark.parametrize("kind", SPACES)
def test_train_step_stays_on_its_device(kind: str) -> None:
    step_on_meta(kind)


@pytest.mark.parametrize("kind", ["vector, discrete", "pixels, continuous"])
@pytest.mark.parametrize("name", ["default", "card", "v2023"])
def test_train_step_of_each_preset_stays_on_its_device(kind: str, name: str) -> None:
    step_on_meta(kind, name=name, num_categories=4, num_categoricals=4)


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
def test_fast_products_are_on_but_where_they_would_mean_bfloat16(
    amx: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    try:
        device.set_threads(1)
        assert torch.get_float32_matmul_precision() == chosen
        device.set_threads(1, fast_products=False)
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


def test_products_of_few_rows_are_exact_forwards_and_backwards_and_fast_ones_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every product of the loop over time runs with "highest", all others with "medium"."""
    seen: list[tuple[int, str]] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
                left = args[-2]
                seen.append((left.shape[0], torch.get_float32_matmul_precision()))
            return func(*args, **(kwargs or {}))

    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setitem(fast.products, "other", False)
    try:
        device.set_threads(1)
        config = preset("cpu", **SMALL | dict(batch_size=5, seq_len=7))  # numbers that nothing else has
        agent = DreamerV3(config, spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
        agent.train_step(make_batch(config, agent.observation_space, spaces.Discrete(2)))  # gates get gradients
        with Watch():
            agent.train_step(make_batch(config, agent.observation_space, spaces.Discrete(2)))
        assert torch.get_float32_matmul_precision() == "medium"
        of_a_step = {chosen for rows, chosen in seen if rows == config.batch_size}
        of_all_steps = {chosen for rows, chosen in seen if rows == config.batch_size * config.seq_len}
        assert of_a_step == {"highest"} and of_all_steps == {"medium"}
        obs = {"vector": np.zeros((2, 3), np.float32), "is_first": np.ones(2, bool)}
        seen.clear()
        with Watch():
            agent.act(obs, None)
        assert {chosen for _, chosen in seen} == {"highest"}
        with pytest.raises(ZeroDivisionError), fast.few_rows(torch.ones(1)):
            1 / 0  # noqa: B018
        assert torch.get_float32_matmul_precision() == "medium"
        with fast.few_rows(torch.ones(1000)):
            assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
