"""Tasks of the learning table that no package registers as they are: ``tasks:Name-v0`` with this folder on the path."""

from __future__ import annotations

import gymnasium as gym
from gymnasium.wrappers import TransformReward


def scaled_cartpole(scale: float, **arguments: object) -> gym.Env:
    """CartPole-v1 with another unit of reward."""
    return TransformReward(gym.make("CartPole-v1", **arguments), lambda reward: scale * float(reward))


def minigrid_pixels(name: str, **arguments: object) -> gym.Env:
    """A task of the package ``minigrid``, seen from above as a picture with 4 x 4 pixels to a cell."""
    import minigrid  # noqa: F401  registers its tasks
    from minigrid.wrappers import ImgObsWrapper, RGBImgObsWrapper

    return ImgObsWrapper(RGBImgObsWrapper(gym.make(name, **arguments), tile_size=4))


gym.register("CartPoleMilli-v0", scaled_cartpole, kwargs={"scale": 0.001})
gym.register("CartPoleKilo-v0", scaled_cartpole, kwargs={"scale": 1000.0})
gym.register("MiniGridEmpty5x5-v0", minigrid_pixels, kwargs={"name": "MiniGrid-Empty-5x5-v0"})
