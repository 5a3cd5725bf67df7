"""The pictures of lesson 01: rulers side by side, errors by the size of the rewards, what tickets are taken for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dreamer_helpers import plots

STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""A line for each curve, so that colour is not the only code."""


def rulers_picture(rulers: Mapping[str, Callable[[Tensor], Tensor]]) -> plots.Picture:
    """Functions of a number as curves: on the left from -3 to 3, on the right from 0.01 to 100,000 by powers of ten."""
    figure = plots.new_figure(8.5, 3.0)
    near, far = figure.subplots(1, 2)
    plots.tidy(near, "near 0", "x, the reward", "what the ruler shows")
    plots.tidy(far, "far out", "x, the reward, by powers of ten", "what the ruler shows")
    small, large = torch.linspace(-3, 3, 1201), torch.logspace(-2, 5, 701)
    near.plot(small, small, color="0.6", linewidth=0.8, label="y = x")
    far.plot(large, large, color="0.6", linewidth=0.8)
    for i, (name, ruler) in enumerate(rulers.items()):
        look = dict(color=plots.COLOURS[i], linestyle=STYLES[i], linewidth=1.8, label=name)
        near.plot(small, ruler(small), **look)
        far.plot(large, ruler(large), **look)
    near.set_ylim(-3, 3)
    far.set(xscale="log", ylim=(-5, 15))
    figure.legend(*near.get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False)
    words = [_in_words(name, ruler) for name, ruler in rulers.items()]
    return plots.Picture(figure, f"Curves of what each ruler shows. {' '.join(words)}")


def _in_words(name: str, ruler: Callable[[Tensor], Tensor]) -> str:
    at = (-2.0, 0.0, 0.1, 1.0, 1000.0, 100_000.0)
    shown = [f"{_said(value)} at {x:g}" for x, value in zip(at, ruler(torch.tensor(at)).tolist(), strict=True)]
    return f"{name.capitalize()}: {', '.join(shown)}."


def _said(value: float) -> str:
    """Three digits, or words where there are none."""
    if not np.isfinite(value):
        return "no value" if np.isnan(value) else "minus infinity" if value < 0 else "infinity"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def errors_picture(errors: Mapping[str, Sequence[float]], games: Sequence[str]) -> plots.Picture:
    """Relative errors of several learners as bars, a group for each game; the dashed line is always saying 0."""
    figure = plots.new_figure(7.5, 2.8)
    axes = plots.tidy(figure.subplots(), "relative error in each game", "size of the rewards", "relative error")
    places, width = np.arange(len(games)), 0.8 / len(errors)
    for i, (name, values) in enumerate(errors.items()):
        left = places + width * (i - (len(errors) - 1) / 2)
        bars = axes.bar(left, values, 0.9 * width, color=plots.COLOURS[i], hatch=("", "//", "..")[i % 3], label=name)
        axes.bar_label(bars, [_said(value) for value in values], fontsize=7)
    axes.axhline(1.0, color="0.4", linewidth=0.8, linestyle="--", label="always saying 0")
    axes.set(xticks=places, xticklabels=games, yscale="log")
    axes.margins(y=0.12)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    told = "Bars of the relative error by the size of the rewards; 1 is that of always saying 0."
    words = [
        f"{name.capitalize()}: {', '.join(f'{_said(v)} for {g}' for v, g in zip(values, games, strict=True))}."
        for name, values in errors.items()
    ]
    return plots.Picture(
        figure,
        f"{told} {' '.join(words)}",
    )


def tickets_picture(worth: Callable[[Tensor, Tensor], Tensor], chances: Sequence[float]) -> plots.Picture:
    """Which share of a ticket's worth is learned, by its prize from 0.001 to 100,000: a curve for each chance."""
    figure = plots.new_figure(7.5, 2.8)
    axes = plots.tidy(figure.subplots(), "how much of its worth is learned", "prize, by powers of ten", "share learned")
    prize, words = torch.logspace(-3, 5, 401), []
    for i, chance in enumerate(chances):
        share = worth(torch.tensor(chance), prize) / (chance * prize)
        axes.plot(prize, share, color=plots.COLOURS[i], linestyle=STYLES[i], linewidth=1.8, label=f"chance {chance:g}")
        ends = [f"{share[k]:.2g} for a prize of {prize[k]:g}" for k in (0, 150, 300, 400)]
        words.append(f"With a chance of {chance:g}: {', '.join(ends)}.")
    axes.axhline(1.0, color="0.4", linewidth=0.8, linestyle="--", label="the true worth")
    axes.set(xscale="log", ylim=(0, 1.1))
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return plots.Picture(figure, f"The share of its worth that is learned of a ticket. {' '.join(words)}")
