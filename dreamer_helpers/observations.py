"""Observations in and out: the encoder that reads them and the decoder that paints them, for any canonical space.

A canonical space (``envs.canonical_space``) has images, vectors and discrete entries, each under a key of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers.config import Config
from dreamer_helpers.errors import UserError
from dreamer_helpers.nets import MLP, ConvDecoder, ConvEncoder, Linear, Norm, RMSNorm
from dreamer_helpers.symlog import symlog

Observation = dict[str, Tensor]


def entries(space: spaces.Dict) -> tuple[dict[str, tuple[int, ...]], dict[str, int], dict[str, list[int]]]:
    """The images (shape), vectors (length) and discrete entries (classes of each component) of a space."""
    images, vectors, discrete = {}, {}, {}
    for key, entry in sorted(space.items()):
        if isinstance(entry, spaces.MultiDiscrete):
            discrete[key] = entry.nvec.tolist()
        elif entry.dtype == "uint8":
            images[key] = entry.shape
        else:
            vectors[key] = entry.shape[0]
    if len({shape[:2] for shape in images.values()}) > 1:
        raise UserError(f"the images of an observation must be of one size, not {images}")
    return images, vectors, discrete


class Encoder(nn.Module):
    """An observation to one embedding: {key: (N, ...)} -> (N, E).

    Vectors (after symlog) and one-hot discrete entries pass an MLP, images (stacked by channel) a convolutional net.
    Source: tests/golden/encoder.npz.
    """

    def __init__(
        self, config: Config, space: spaces.Dict, norm: Norm = RMSNorm, squash: Callable[[Tensor], Tensor] = symlog
    ):
        super().__init__()
        self.images, self.vectors, self.discrete = entries(space)
        self.squash, self.outputs = squash, 0
        inputs = sum(self.vectors.values()) + sum(map(sum, self.discrete.values()))
        if inputs:
            self.mlp = MLP(inputs, config.hidden_dim, config.mlp_layers, norm)
            self.outputs += config.hidden_dim
        if self.images:
            shape = (*next(iter(self.images.values()))[:2], sum(s[2] for s in self.images.values()))
            self.cnn = ConvEncoder(
                shape, config.cnn_depth, config.cnn_mults, config.cnn_kernel, config.convolution, norm,
                config.image_patch,
            )  # fmt: skip
            self.outputs += self.cnn.outputs

    def _vector(self, obs: Observation, key: str) -> Tensor:
        if key in self.vectors:
            return self.squash(obs[key].float())
        return torch.cat([_one_hot(i, n) for i, n in zip(obs[key].unbind(-1), self.discrete[key], strict=True)], -1)

    def forward(self, obs: Observation) -> Tensor:
        parts = []
        if keys := sorted([*self.vectors, *self.discrete]):
            parts.append(self.mlp(torch.cat([self._vector(obs, key) for key in keys], -1)))
        if self.images:
            images = [obs[key] for key in self.images]
            parts.append(self.cnn(torch.cat(images, -1) if len(images) > 1 else images[0]))
        return torch.cat(parts, -1)


def _one_hot(index: Tensor, classes: int) -> Tensor:
    """(...) -> (..., classes). F.one_hot would look at the values, which makes a GPU wait."""
    return (index[..., None] == torch.arange(classes, device=index.device)).float()


class Decoder(nn.Module):
    """A latent state to what each entry of the observation should be: (N, D), (N, S C) -> {key: (N, ...)}.

    Images come in [0, 1], vectors in symlog space, discrete entries as logits, components side by side. Source:
    tests/golden/decoder.npz.
    """

    def __init__(
        self, config: Config, space: spaces.Dict, norm: Norm = RMSNorm,
        image_output: Callable[[Tensor], Tensor] = torch.sigmoid,
    ):  # fmt: skip
        super().__init__()
        self.images, self.vectors, self.discrete = entries(space)
        deter, stoch = config.rnn_hidden_dim, config.num_categoricals * config.num_categories
        widths = {**self.vectors, **{key: sum(sizes) for key, sizes in self.discrete.items()}}
        if widths:
            self.mlp = MLP(deter + stoch, config.hidden_dim, config.mlp_layers, norm)
            # module names cannot hold dots, so outputs are kept in the order of the keys
            self.keys = sorted(widths)
            self.outputs = nn.ModuleList(Linear(config.hidden_dim, widths[key]) for key in self.keys)
        if self.images:
            shape = (*next(iter(self.images.values()))[:2], sum(s[2] for s in self.images.values()))
            self.cnn = ConvDecoder(
                deter, stoch, shape, config.hidden_dim, config.blocks, config.cnn_depth, config.cnn_mults,
                config.cnn_kernel, config.convolution, norm, image_output, config.image_patch,
            )  # fmt: skip

    def forward(self, deter: Tensor, stoch: Tensor) -> Observation:
        result: Observation = {}
        if self.vectors or self.discrete:
            hidden = self.mlp(torch.cat([stoch, deter], -1))
            result |= {key: out(hidden).float() for key, out in zip(self.keys, self.outputs, strict=True)}
        if self.images:
            channels = [shape[2] for shape in self.images.values()]
            result |= dict(zip(self.images, self.cnn(deter, stoch).split(channels, -1), strict=True))
        return result
