"""The building blocks of all nets: linear and block-diagonal layers, RMS norm, MLPs, image encoder and decoder.

Everywhere the order is linear (or convolution), norm, SiLU, and weights start as in the official code. Images come
and go as (..., H, W, C), as in Gymnasium.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer_helpers.errors import require
from dreamer_helpers.symlog import TwoHot, symlog

Norm = Callable[[int], nn.Module]
"""Makes a normalisation layer for so many features (or channels); the agent also hands it ``eps``."""


def initialize_(weight: Tensor, fan_in: int, scale: float = 1.0) -> None:
    """Fill a weight, in place, from a normal cut at two deviations, with variance ``scale² / fan_in``.

    1.1368 makes good for the variance that the cut takes away. Source: code, embodied/jax/nets.py, trunc_normal_in.
    """
    with torch.no_grad():
        nn.init.trunc_normal_(weight, std=1.0, a=-2.0, b=2.0)
        weight.mul_(1.1368 * scale / fan_in**0.5)


class Linear(nn.Linear):
    """``x @ W + b``: (..., inputs) -> (..., outputs). ``scale`` shrinks the initial weights; 0 makes them 0.

    Source: tests/golden/linear.npz.
    """

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0, bias: bool = True):
        super().__init__(inputs, outputs, bias)
        initialize_(self.weight, inputs, scale)
        if bias:
            nn.init.zeros_(self.bias)


class BlockLinear(nn.Module):
    """A linear layer with block-diagonal weights: (..., inputs) -> (..., outputs), both ``blocks`` blocks in a row.

    Each block of outputs sees its own block of inputs alone, so the layer holds ``blocks`` times fewer weights than
    a dense one. The initial scale follows the full number of inputs, as in the official code. Raises ValueError if
    inputs or outputs do not divide into blocks. Source: tests/golden/blocklinear.npz.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int):
        super().__init__()
        if inputs % blocks or outputs % blocks:
            raise ValueError(f"BlockLinear: {inputs} inputs and {outputs} outputs must divide into {blocks} blocks")
        self.blocks = blocks
        self.weight = nn.Parameter(torch.empty(blocks, inputs // blocks, outputs // blocks))
        self.bias = nn.Parameter(torch.zeros(outputs))
        initialize_(self.weight, inputs)

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.unflatten(-1, (self.blocks, -1))  # (..., g, inputs/g)
        return torch.einsum("...gi,gio->...go", blocks, self.weight).flatten(-2) + self.bias


class RMSNorm(nn.Module):
    """Divide by the root of the mean square, times a learned scale, over the last axis, in float32.

    ``y = x / sqrt(mean(x²) + eps) * scale``. Source: tests/golden/rmsnorm.npz.
    """

    def __init__(self, features: int, eps: float = 1e-4):
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps) * self.scale).to(x.dtype)


class Shifting:
    """Marks a norm that adds something of its own: the layer before it has no bias then, as in the code of 2023."""


class Layer(nn.Sequential):
    """Linear, norm, SiLU: (..., inputs) -> (..., units)."""

    def __init__(self, inputs: int, units: int, norm: Norm = RMSNorm):
        normed = norm(units)
        super().__init__(Linear(inputs, units, bias=not isinstance(normed, Shifting)), normed, nn.SiLU())


class MLP(nn.Sequential):
    """Layers of one width, each linear, norm, SiLU: (..., inputs) -> (..., units).

    Source: code, embodied/jax/nets.py, MLP; tests/golden/heads.npz.
    """

    def __init__(self, inputs: int, units: int, layers: int, norm: Norm = RMSNorm):
        super().__init__(*(Layer(inputs if i == 0 else units, units, norm) for i in range(layers)))


class Head(nn.Sequential):
    """An MLP and a linear layer, given out as float32: (..., inputs) -> (..., outputs). ``scale`` is of that layer."""

    def __init__(self, inputs: int, outputs: int, units: int, layers: int, norm: Norm = RMSNorm, scale: float = 1.0):
        super().__init__(MLP(inputs, units, layers, norm), Linear(units, outputs, scale))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class TwoHotHead(Head):
    """Predicts a number of any size by a distribution over symexp bins: (..., inputs) -> logits (..., bins).

    Train it with :meth:`loss`, read it with :meth:`mean`. With ``scale`` 0 every first prediction is exactly 0.
    Source: paper, section "Critic learning"; tests/golden/heads.npz.
    """

    def __init__(
        self, inputs: int, units: int, layers: int, norm: Norm = RMSNorm, bins: int = 255, scale: float = 0.0,
        two_hot: TwoHot = TwoHot(),  # noqa: B008  a tuple: nothing can be changed in it
    ):  # fmt: skip
        super().__init__(inputs, bins, units, layers, norm, scale)
        self.two_hot = two_hot
        self.register_buffer("bins", two_hot.bins(bins), persistent=False)

    @torch.no_grad()
    def lower_far_bins(self, slope: float) -> None:
        """Begin with logits that fall by ``slope`` for each unit of symlog from 0: the first prediction is still 0.

        From equal logits, the farthest bins, at 4.9e8, have to come down to a chance of 1e-9 before a return of 0.1
        can be told from noise.
        """
        self[1].bias.copy_(-slope * symlog(self.bins).abs())

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy with the two-hot encoding of the target (...), in nats: (...)."""
        return self.two_hot.loss(logits, target, self.bins)

    def mean(self, logits: Tensor) -> Tensor:
        """The predicted number: (..., bins) -> (...)."""
        return self.two_hot.mean(logits, self.bins)


def continue_loss(logits: Tensor, is_terminal: Tensor, gamma: float) -> Tensor:
    """Binary cross-entropy of logits (...) with the target ``gamma * (1 - is_terminal)``, in nats: (...).

    The discount is folded into the target, so that what is predicted is the factor that the return of the next state
    enters with. Source: code, agent.py, contdisc; tests/golden/heads.npz.
    """
    target = gamma * (1.0 - is_terminal.float())
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


class ContinueHead(Head):
    """Predicts whether the episode goes on, times the discount: (..., inputs) -> logits (..., 1).

    Train it with :meth:`loss`, which is :func:`continue_loss` by default, read it with :meth:`mean`.
    """

    def __init__(
        self, inputs: int, units: int, layers: int, norm: Norm = RMSNorm, gamma: float = 1 - 1 / 333,
        continue_loss: Callable[[Tensor, Tensor, float], Tensor] = continue_loss,
    ):  # fmt: skip
        super().__init__(inputs, 1, units, layers, norm)
        self.gamma, self.continue_loss = gamma, continue_loss

    def loss(self, logits: Tensor, is_terminal: Tensor) -> Tensor:
        """How far logits (..., 1) are from what happened, is_terminal (...): (...)."""
        return self.continue_loss(logits[..., 0], is_terminal, self.gamma)

    def mean(self, logits: Tensor) -> Tensor:
        """The predicted discount: (..., 1) -> (...), in (0, 1)."""
        return torch.sigmoid(logits[..., 0])


# ---------------------------------------------------------------------------------------------------- images


class ChannelNorm(nn.Module):
    """A norm over the channels of (N, C, H, W)."""

    def __init__(self, channels: int, norm: Norm):
        super().__init__()
        self.norm = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stages(nn.Sequential):
    """Convolution, norm, SiLU, again and again, on (N, C, H, W)."""


def _conv(module: nn.Conv2d | nn.ConvTranspose2d) -> nn.Conv2d | nn.ConvTranspose2d:
    initialize_(module.weight, module.in_channels * module.kernel_size[0] ** 2)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


class PooledConv(nn.Sequential):
    """Halve an image: convolution, the largest of each 2 x 2 pixels. (N, C, H, W) -> (N, C', H/2, W/2)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True):
        super().__init__(_conv(nn.Conv2d(inputs, outputs, kernel, padding="same", bias=bias)), nn.MaxPool2d(2))


class StridedConv(nn.Sequential):
    """Halve an image by a convolution that takes every second pixel, as the paper's text has it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True):
        super().__init__(_conv(nn.Conv2d(inputs, outputs, kernel, stride=2, padding=(kernel - 1) // 2, bias=bias)))


class UpsampledConv(nn.Sequential):
    """Double an image: repeat each pixel 2 x 2, convolution. (N, C, H, W) -> (N, C', 2H, 2W)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True):
        conv = nn.Conv2d(inputs, outputs, kernel, padding="same", bias=bias)
        super().__init__(nn.Upsample(scale_factor=2), _conv(conv))


class TransposedConv(nn.Sequential):
    """Double an image by a transposed convolution with stride 2."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True):
        conv = nn.ConvTranspose2d(
            inputs, outputs, kernel, stride=2, padding=(kernel - 1) // 2, output_padding=kernel % 2, bias=bias
        )
        super().__init__(_conv(conv))


HALVING = {"pooled": PooledConv, "strided": StridedConv}
DOUBLING = {"pooled": UpsampledConv, "strided": TransposedConv}


def stage_channels(resolution: Sequence[int], depth: int, mults: Sequence[int]) -> list[int]:
    """Channels of each halving stage: as many of ``mults`` as leave the shorter side at 4 pixels or more."""
    stages = 1
    while stages < len(mults) and min(resolution) >= 4 * 2 ** (stages + 1):
        stages += 1
    return [depth * mult for mult in mults[:stages]]


def to_patches(image: Tensor, side: int) -> Tensor:
    """Squares of pixels to channels: (N, H, W, C) -> (N, H/side, W/side, side² C)."""
    squares = image.unflatten(1, (-1, side)).unflatten(3, (-1, side))  # (N, H/side, side, W/side, side, C)
    return squares.transpose(2, 3).flatten(3)


def from_patches(patches: Tensor, side: int) -> Tensor:
    """Inverse of :func:`to_patches`."""
    squares = patches.unflatten(3, (side, side, -1)).transpose(2, 3)
    return squares.flatten(3, 4).flatten(1, 2)


class ConvEncoder(nn.Module):
    """Images to features: uint8 (N, H, W, C) -> (N, D), flattened in the order height, width, channel.

    Each stage halves the image. A side that does not halve often enough is padded with black. Pixels enter as
    ``x / 255 - 0.5``, squares of ``patch`` x ``patch`` of them as the channels of one. Source:
    tests/golden/encoder.npz.
    """

    def __init__(
        self, shape: Sequence[int], depth: int, mults: Sequence[int], kernel: int, convolution: str, norm: Norm,
        patch: int = 1,
    ):  # fmt: skip
        super().__init__()
        height, width, inputs = shape
        self.patch = patch
        channels = stage_channels((height // patch, width // patch), depth, mults)
        factor = patch * 2 ** len(channels)
        self.grid = tuple(-(-side // factor) for side in (height, width))  # size after all stages
        self.padding = tuple(g * factor - side for g, side in zip(self.grid, (height, width), strict=True))
        stages: list[nn.Module] = []
        for before, after in zip([inputs * patch**2, *channels], channels, strict=False):
            normed = ChannelNorm(after, norm)
            stages += [
                HALVING[convolution](before, after, kernel, not isinstance(normed.norm, Shifting)),
                normed,
                nn.SiLU(),
            ]
        self.stages = Stages(*stages)
        self.outputs = self.grid[0] * self.grid[1] * channels[-1]

    def forward(self, image: Tensor) -> Tensor:
        x = F.pad(image, (0, 0, 0, self.padding[1], 0, self.padding[0])) if any(self.padding) else image
        x = to_patches(x, self.patch) if self.patch > 1 else x
        x = x / 255.0 - 0.5  # uint8 -> float32
        x = self.stages(x.permute(0, 3, 1, 2))  # a view of channels-last memory, which convolutions like
        return x.permute(0, 2, 3, 1).reshape(len(x), -1)


class ConvDecoder(nn.Module):
    """Latent states to images: h (N, deter) and z (N, stoch) -> (N, H, W, C) in [0, 1].

    h, block by block, and z, through a layer, each make a small grid of channels; their sum is doubled in size stage
    by stage. Source: tests/golden/decoder.npz.
    """

    def __init__(
        self, deter: int, stoch: int, shape: Sequence[int], units: int, blocks: int, depth: int,
        mults: Sequence[int], kernel: int, convolution: str, norm: Norm,
        image_output: Callable[[Tensor], Tensor] = torch.sigmoid, patch: int = 1,
    ):  # fmt: skip
        super().__init__()
        self.shape, self.patch = tuple(shape), patch
        channels = stage_channels([side // patch for side in shape[:2]], depth, mults)
        self.grid = tuple(-(-side // (patch * 2 ** len(channels))) for side in shape[:2])
        outputs = self.grid[0] * self.grid[1] * channels[-1]
        told = f"cnn_depth times cnn_mults gives {channels[-1]} channels, which must be a multiple of blocks ({blocks})"
        require(channels[-1] % blocks == 0, told)
        self.blocks = blocks
        self.from_deter = BlockLinear(deter, outputs, blocks)
        self.from_stoch = nn.Sequential(Layer(stoch, 2 * units, norm), Linear(2 * units, outputs))
        stages: list[nn.Module] = [ChannelNorm(channels[-1], norm), nn.SiLU()]
        for before, after in zip(channels[::-1], channels[-2::-1], strict=False):
            normed = ChannelNorm(after, norm)
            stages += [
                DOUBLING[convolution](before, after, kernel, not isinstance(normed.norm, Shifting)),
                normed,
                nn.SiLU(),
            ]
        stages.append(DOUBLING[convolution](channels[0], shape[2] * patch**2, kernel))
        self.stages = Stages(*stages)
        self.output = image_output

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        height, width = self.grid
        x = self.from_deter(deter).reshape(len(deter), self.blocks, height, width, -1)  # (N, g, h, w, c)
        x = x.permute(0, 2, 3, 1, 4).reshape(len(deter), height, width, -1)  # (N, h, w, g c)
        x = x + self.from_stoch(stoch).reshape(x.shape)
        x = self.stages(x.permute(0, 3, 1, 2))
        image = self.output(x.permute(0, 2, 3, 1).float())
        image = from_patches(image, self.patch) if self.patch > 1 else image
        return image[:, : self.shape[0], : self.shape[1]]
