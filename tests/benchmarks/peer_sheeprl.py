"""One gradient step of sheeprl's DreamerV3 at the sizes of S1 or S2; runs in an environment that has sheeprl.

Started by ``peers.py``, which speaks to it as to ``step.py --serve``: a number on standard input asks for so many
steps, a line of JSON answers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import hydra
import numpy as np
import torch
from gymnasium import spaces
from hydra import compose, initialize_config_module
from lightning.fabric import Fabric
from omegaconf import OmegaConf
from sheeprl.algos.dreamer_v3.agent import build_agent
from sheeprl.algos.dreamer_v3.dreamer_v3 import train
from sheeprl.algos.dreamer_v3.utils import Moments
from sheeprl.utils.utils import dotdict

SIZES = {
    "S1": dict(deter=256, latents=16, actions=2, key="state", space=spaces.Box(-np.inf, np.inf, (8,), np.float32)),
    "S2": dict(deter=512, latents=32, actions=6, key="rgb", space=spaces.Box(0, 255, (3, 64, 64), np.uint8)),
}
BATCH, TIME, DEPTH, UNITS = 16, 64, 16, 256


def overrides(size: dict[str, Any]) -> list[str]:
    """The settings of sheeprl that make it the standard configuration."""
    model = "algo.world_model"
    image = size["key"] == "rgb"
    return [
        "exp=dreamer_v3", "env=dummy", "fabric.accelerator=cpu", "metric.log_level=0",
        *(f"algo.cnn_keys.{net}=[{size['key'] if image else ''}]" for net in ("encoder", "decoder")),
        *(f"algo.mlp_keys.{net}=[{'' if image else size['key']}]" for net in ("encoder", "decoder")),
        f"algo.dense_units={UNITS}", "algo.mlp_layers=2", f"{model}.reward_model.mlp_layers=1",
        f"{model}.discount_model.mlp_layers=1", f"{model}.encoder.cnn_channels_multiplier={DEPTH}",
        f"{model}.recurrent_model.recurrent_state_size={size['deter']}", f"{model}.stochastic_size={size['latents']}",
        f"{model}.discrete_size={size['latents']}", f"{model}.transition_model.hidden_size={UNITS}",
        f"{model}.representation_model.hidden_size={UNITS}", f"algo.per_rank_batch_size={BATCH}",
        f"algo.per_rank_sequence_length={TIME}",
    ]  # fmt: skip


def prepare(size: dict[str, Any]) -> tuple[Callable[[], None], Callable[[], None], int]:
    """A function that does one gradient step, one that acts once, and the number of parameters."""
    with initialize_config_module("sheeprl.configs", version_base="1.3"):
        config = dotdict(OmegaConf.to_container(compose("config", overrides(size)), resolve=True))
    fabric = Fabric(accelerator="cpu", devices=1)
    observations = spaces.Dict({size["key"]: size["space"]})
    world_model, actor, critic, target, player = build_agent(fabric, (size["actions"],), False, config, observations)
    parts = {"world_model": world_model, "actor": actor, "critic": critic}
    optimizers = [
        fabric.setup_optimizers(
            hydra.utils.instantiate(config.algo[name].optimizer, params=part.parameters(), _convert_="all")
        )
        for name, part in parts.items()
    ]
    scale = config.algo.actor.moments
    moments = Moments(scale.decay, scale.max, scale.percentile.low, scale.percentile.high)
    shape = (TIME, BATCH)
    torch.manual_seed(0)
    batch = {
        size["key"]: torch.randint(0, 256, (*shape, 3, 64, 64), dtype=torch.uint8).float()
        if size["key"] == "rgb" else torch.randn(*shape, 8),
        "actions": torch.nn.functional.one_hot(torch.randint(size["actions"], shape), size["actions"]).float(),
        "rewards": torch.randn(*shape, 1), "is_first": (torch.rand(*shape, 1) < 0.05).float(),
        "terminated": (torch.rand(*shape, 1) < 0.05).float(),
    }  # fmt: skip

    def step() -> None:
        train(
            fabric, world_model, actor, critic, target, *optimizers, dict(batch), None, config, False,
            (size["actions"],), moments,
        )  # fmt: skip
        with torch.no_grad():  # as in sheeprl's own loop
            torch._foreach_lerp_(list(target.parameters()), list(critic.module.parameters()), config.algo.critic.tau)

    player.num_envs = 1
    player.init_states()
    observation = {key: value[:1, :1] for key, value in batch.items() if key == size["key"]}

    def act() -> None:
        with torch.no_grad():
            player.get_actions(observation)

    count = sum(p.numel() for part in parts.values() for p in part.parameters() if p.requires_grad)
    return step, act, count


if __name__ == "__main__":
    from serve import serve

    name, products = sys.argv[1:3]
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(products)
    step, act, count = prepare(SIZES[name])
    serve({"train": step, "act": act}, {"parameters": count})
