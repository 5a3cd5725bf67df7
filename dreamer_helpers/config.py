"""Every hyperparameter once: its default, what it means, its unit, and where it comes from.

``Config()`` is today's official code with the hyperparameters of the Nature paper. ``preset(name)`` gives the named
settings of the course. ``sources`` used below: *paper* is arXiv 2301.04104 version 2 (Nature 640:647, 2025), *v1* its
first version, *code* is danijar/dreamerv3 at commit e3f0224, *card* is the plan this course began with.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dreamer_helpers.errors import UserError, did_you_mean, require
from dreamer_helpers.replay import Replay


def setting(default: Any, meaning: str, unit: str, source: str, **limits: Any) -> Any:
    """A field of :class:`Config` that knows what it means, its unit, where its default comes from, and its limits.

    ``low`` and ``high`` are the smallest and the largest value of a number, ``above`` and ``below`` bounds that it may
    not reach, ``choices`` the words that there are. In a tuple they hold for every entry.
    """
    return dataclasses.field(
        default=default, metadata={"meaning": meaning, "unit": unit, "source": source, "limits": limits}
    )


@dataclass(frozen=True)
class Config:
    """All settings of the agent and of its training. Immutable: use ``dataclasses.replace`` or :func:`preset`."""

    # --- sizes of the nets
    rnn_hidden_dim: int = setting(8192, "deterministic state h of the sequence model", "units", "code, size200m", low=1)
    hidden_dim: int = setting(1024, "width of every MLP layer", "units", "code, size200m", low=1)
    num_categoricals: int = setting(32, "categorical latents in z", "latents", "paper, Table 3", low=1)
    num_categories: int = setting(
        64, "classes of each latent", "classes", "code, size200m: hidden_dim / 16", low=2, high=32768
    )
    gate_init_scale: float = setting(
        1.0, "scale of the initial gate weights of the sequence model", "factor", "course", low=0
    )
    blocks: int = setting(8, "blocks of the block-diagonal recurrent weights", "blocks", "code; paper, Table 3", low=1)
    mlp_layers: int = setting(3, "layers of actor, critic, vector encoder and decoder", "layers", "code", low=1)
    head_layers: int = setting(1, "layers of the reward and continue heads", "layers", "code", low=1)
    prior_layers: int = setting(2, "layers between h and the prior logits", "layers", "code, imglayers", low=1)
    posterior_layers: int = setting(
        1, "layers between (h, embedding) and the posterior logits", "layers", "code", low=1
    )
    cnn_depth: int = setting(64, "channels of the image nets, times cnn_mults", "channels", "code, size200m", low=1)
    cnn_mults: tuple[int, ...] = setting((2, 3, 4, 4), "channel factors; each stage halves", "factor", "code", low=1)
    cnn_kernel: int = setting(5, "side of the convolution kernels", "pixels", "code", low=1)
    convolution: str = setting(
        "pooled", "how a stage halves the image: pooled or strided", "name", "code", choices=("pooled", "strided")
    )
    num_bins: int = setting(255, "bins of the two-hot reward and value heads", "bins", "paper; code", low=2)
    norm_eps: float = setting(1e-4, "added inside the root of the normalisation", "number", "code", above=0)

    # --- world model
    unimix: float = setting(0.01, "share of uniform in latents and discrete policies", "share", "paper", low=0, high=1)
    free_nats: float = setting(1.0, "KL of a step below which nothing is learned", "nats", "paper", low=0)
    kl_coef: float = setting(1.0, "scale of the dynamics loss (prior towards posterior)", "factor", "paper", low=0)
    rep_coef: float = setting(0.1, "scale of the representation loss (posterior to prior)", "factor", "paper", low=0)
    image_patch: int = setting(
        1, "side of the squares of pixels that the image nets take as one", "pixels", "course", low=1
    )
    image_pixels: int = setting(
        0, "scale the image loss as if images had so many pixels; 0 leaves it", "pixels", "course", low=0
    )
    vector_scale: float = setting(1.0, "scale of the loss on vector observations", "factor", "course; 1 in code", low=0)

    # --- behaviour
    gamma: float = setting(
        1 - 1 / 333, "discount, folded into the continue target", "factor/step", "paper", low=0, high=1
    )
    lambda_: float = setting(0.95, "mixing of n-step returns", "factor", "paper", low=0, high=1)
    imagination_horizon: int = setting(15, "imagined steps after each start", "steps", "paper", low=1)
    imagination_last: int = setting(0, "start dreams from the last so many steps; 0 is all", "steps", "code", low=0)
    entropy_coef: float = setting(3e-4, "entropy bonus of the policy", "factor", "paper", low=0)
    min_std: float = setting(0.1, "smallest deviation of a continuous policy", "action", "code", above=0)
    max_std: float = setting(1.0, "largest deviation of a continuous policy", "action", "code", above=0)
    return_low: float = setting(5.0, "lower percentile of the return range", "percent", "paper", low=0, high=100)
    return_high: float = setting(95.0, "upper percentile of the return range", "percent", "paper", low=0, high=100)
    return_rate: float = setting(
        0.01, "rate at which the return range follows", "1/update", "paper: decay 0.99", above=0, high=1
    )
    return_floor: float = setting(1.0, "returns are never scaled up: smallest range", "return", "paper", above=0)
    return_floor_relative: bool = setting(
        False, "count that floor in units of the largest reward replayed so far", "yes/no", "course"
    )
    slow_rate: float = setting(
        0.02, "rate at which the slow critic follows", "1/update", "paper: decay 0.98", above=0, high=1
    )
    slow_critic_coef: float = setting(1.0, "pull of the critic towards its slow copy", "factor", "paper", low=0)
    replay_critic_coef: float = setting(0.3, "scale of the critic loss on replayed data", "factor", "paper", low=0)
    actor_init_scale: float = setting(0.01, "scale of the initial policy output weights", "factor", "code", low=0)
    value_init_scale: float = setting(0.0, "the same of reward and value outputs", "factor", "paper: zero", low=0)
    bin_slope: float = setting(0.0, "fall of the first two-hot logits per unit of symlog", "logit", "course", low=0)

    # --- optimiser
    learning_rate: float = setting(4e-5, "learning rate", "1/update", "paper", above=0)
    actor_learning_rate: float = setting(
        0.0, "learning rate of the actor; 0: learning_rate", "1/update", "course", low=0
    )
    critic_learning_rate: float = setting(
        0.0, "learning rate of the critic; 0: learning_rate", "1/update", "course", low=0
    )
    adam_eps: float = setting(1e-20, "added to the root of the second moment", "gradient", "paper", above=0)
    beta1: float = setting(0.9, "decay of the momentum", "1/update", "paper", low=0, below=1)
    beta2: float = setting(
        0.999, "decay of the second moment", "1/update", "code; the paper prints 0.99", low=0, below=1
    )
    gradient_clip: float = setting(
        0.3, "largest gradient norm as a share of the weight norm, per tensor (AGC)", "share", "paper", above=0
    )
    warmup: int = setting(1000, "updates in which the learning rate rises from 0", "updates", "code", low=0)
    average_share: float = setting(
        0.0, "a trained agent has its weights averaged over this last share of its training", "share", "course",
        low=0, high=1,
    )  # fmt: skip

    # --- data
    batch_size: int = setting(16, "sequences in a batch", "sequences", "paper", low=1)
    seq_len: int = setting(64, "steps of a sequence, beside one of context", "steps", "paper", low=2)
    train_ratio: float = setting(32.0, "replayed steps per environment step", "steps/step", "paper, Table 2", above=0)
    replay_capacity: int = setting(5_000_000, "steps kept in replay", "steps", "paper", low=1)
    num_envs: int = setting(16, "environments stepped in lockstep", "environments", "paper", low=1)

    # --- alternatives of variants.py that replace parts of the algorithm
    variants: tuple[str, ...] = setting((), "names of variants, applied in order", "names", "course")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), _kinds()[field.name], field.metadata["limits"])
        require(
            self.rnn_hidden_dim % self.blocks == 0,
            f"config: rnn_hidden_dim ({self.rnn_hidden_dim}) must be a multiple of blocks ({self.blocks})",
        )
        require(
            self.imagination_last <= self.seq_len,
            f"config: imagination_last ({self.imagination_last}) cannot exceed seq_len ({self.seq_len})",
        )
        require(
            self.imagination_last != 1 or not self.replay_critic_coef,
            "config: imagination_last must be 0 or at least 2: the critic on replay learns from pairs of steps",
        )
        require(
            self.min_std <= self.max_std, f"config: min_std ({self.min_std}) cannot exceed max_std ({self.max_std})"
        )
        require(
            self.return_low < self.return_high,
            f"config: return_low ({self.return_low}) must be below return_high ({self.return_high})",
        )
        require(len(self.cnn_mults) > 0, "config: cnn_mults must have an entry for each stage, and at least one")
        Replay.check(self.replay_capacity, self.num_envs, self.seq_len, self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Config:
        """Inverse of :meth:`to_dict`. Raises UserError for names that are no settings."""
        known = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise UserError(f"config: no setting {name!r}{did_you_mean(name, known)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

    def describe(self) -> str:
        """A table of all settings: value, meaning, unit, source."""
        rows = [
            f"{f.name:<28}{getattr(self, f.name)!s:<16}{f.metadata['meaning']} "
            f"[{f.metadata['unit']}; {f.metadata['source']}]"
            for f in dataclasses.fields(self)
        ]
        return "\n".join(rows)


@functools.cache
def _kinds() -> dict[str, Any]:
    """The type of each setting by its name."""
    return typing.get_type_hints(Config)


LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "low": ("at least {}", operator.ge), "high": ("at most {}", operator.le), "above": ("above {}", operator.gt),
    "below": ("below {}", operator.lt), "choices": ("one of {}", lambda value, choices: value in choices),
}  # fmt: skip
"""How each kind of limit of :func:`setting` is told, and how it is looked at."""
TYPES: dict[type, tuple[str, Callable[[Any], bool]]] = {
    int: ("an int", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: type(value) is int or (isinstance(value, float) and math.isfinite(value))),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    str: ("a word", lambda value: isinstance(value, str)),
}  # an int counts as a float, as everywhere in Python


def _check(name: str, value: Any, kind: Any, limits: dict[str, Any]) -> None:
    """Raise UserError unless a value has its type and keeps all limits."""
    several = typing.get_origin(kind) is tuple
    words, is_one = TYPES[typing.get_args(kind)[0] if several else kind]
    values = value if several else (value,)
    right = not several or isinstance(value, tuple)
    right = right and all(is_one(v) and all(LIMITS[k][1](v, bound) for k, bound in limits.items()) for v in values)
    told = " and ".join(LIMITS[key][0].format(bound) for key, bound in limits.items())
    wanted = f"{'a tuple, each entry ' if several else ''}{words}{told and ', '}{told}"
    require(right, f"config: {name} must be {wanted}, not {value!r}")


SIZES: dict[str, int] = {"1m": 64, "12m": 256, "25m": 384, "50m": 512, "100m": 768, "200m": 1024, "400m": 1536}
"""Width d of each model size of the official code; everything else follows from d (:func:`size_settings`)."""


def size_settings(size: str) -> dict[str, int]:
    """The four settings that a model size fixes. Source: code, configs.yaml; the paper's Table 3 has one misprint.

    Raises UserError for an unknown size.
    """
    if size not in SIZES:
        raise UserError(f"no model size {size!r}{did_you_mean(size, SIZES)}; there are {', '.join(SIZES)}")
    d = SIZES[size]
    return {
        "hidden_dim": d,
        "rnn_hidden_dim": 8 * d,
        "num_categories": d // 16,
        "cnn_depth": d // 16,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # One preset for every lesson on a CPU: the algorithm of the default, small, and in a hurry.
    "cpu": dict(
        rnn_hidden_dim=128, hidden_dim=96, num_categoricals=8, num_categories=8, cnn_depth=16,
        cnn_mults=(1, 2, 4, 4), cnn_kernel=4, convolution="strided", mlp_layers=2, num_bins=63, gate_init_scale=8.0,
        batch_size=16, seq_len=16, num_envs=4, train_ratio=64.0, replay_capacity=100_000, learning_rate=3e-3,
        actor_learning_rate=5e-4, critic_learning_rate=1.5e-3, average_share=0.1, warmup=50, entropy_coef=0.03,
        imagination_last=8, free_nats=0.1, image_pixels=4096, image_patch=2, vector_scale=10.0, bin_slope=0.5,
        return_floor_relative=True,
    ),
    # The hyperparameters and choices that this course's plan began with.
    "card": dict(
        rnn_hidden_dim=512, hidden_dim=640, num_categoricals=32, num_categories=32, mlp_layers=3, cnn_depth=32,
        batch_size=16, seq_len=64, imagination_horizon=15, learning_rate=1e-4, adam_eps=1e-8,
        gradient_clip=1000.0, gamma=0.997, lambda_=0.95, entropy_coef=3e-4, kl_coef=1.0, free_nats=1.0, warmup=0,
        beta2=0.999,
        variants=("layer_norm", "dense_gru", "symlog_mse", "tanh_normal", "abs95", "single_kl", "adam"),
    ),
    # DreamerV3 of January 2023, size S with the course's own widths left to the caller.
    "v2023": dict(
        rnn_hidden_dim=512, hidden_dim=512, num_categoricals=32, num_categories=32, mlp_layers=2, head_layers=2,
        prior_layers=1, cnn_depth=32, cnn_mults=(1, 2, 4, 8), cnn_kernel=4, convolution="strided", norm_eps=1e-3,
        kl_coef=0.5, learning_rate=1e-4, actor_learning_rate=3e-5, critic_learning_rate=3e-5, adam_eps=1e-8,
        gradient_clip=1000.0, warmup=0, replay_critic_coef=0.0, replay_capacity=1_000_000, actor_init_scale=1.0,
        variants=(
            "layer_norm", "dense_gru", "symlog_two_hot", "hard_continue", "three_adams", "dynamics_backprop",
            "linear_image_output",
        ),
    ),
}  # fmt: skip
"""Named sets of settings; each lists only what differs from ``Config()``."""


def preset(name: str = "default", size: str | None = None, **overrides: Any) -> Config:
    """The named preset, optionally at an official model size, with single settings replaced.

    Raises UserError for an unknown preset, size or setting.
    """
    if name not in PRESETS:
        raise UserError(f"no preset {name!r}{did_you_mean(name, PRESETS)}; there are {', '.join(PRESETS)}")
    return Config.from_dict({**PRESETS[name], **(size_settings(size) if size else {}), **overrides})


def parse_override(text: str) -> tuple[str, Any]:
    """``"name=value"`` of the command line to a setting's name and value of the right type.

    Raises UserError if the name is no setting or the value does not fit.
    """
    name, equals, value = text.partition("=")
    types = typing.get_type_hints(Config)
    if not equals or name not in types:
        raise UserError(f"--set takes name=value with a setting's name, not {text!r}{did_you_mean(name, types)}")
    kind = types[name]
    try:
        if typing.get_origin(kind) is tuple:
            item = typing.get_args(kind)[0]
            return name, tuple(item(part) for part in value.split(",") if part)
        if kind is bool:
            return name, {"true": True, "false": False}[value.lower()]
        return name, kind(value)
    except (ValueError, KeyError):
        raise UserError(f"--set {name}: {value!r} is not a {kind.__name__}") from None
