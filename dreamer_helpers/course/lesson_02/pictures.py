"""The pictures of lesson 02."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dreamer_helpers import plots
from dreamer_helpers.symlog import symlog


def ticket(bins: Tensor, probabilities: Tensor, mean: float, alt: str) -> plots.Picture:
    """A distribution over bins, (n,) each, from -10 to 10,000 on the axis of symlog, and its mean as a dashed line."""
    figure = plots.new_figure(7.0, 2.6)
    axes = plots.tidy(figure.subplots(), "what the network says about the ticket", "paid (bins)", "probability")
    axes.bar(symlog(bins).numpy(), probabilities.numpy(), width=0.14, color=plots.COLOURS[0])
    place = symlog(bins.new_tensor(mean)).item()
    axes.axvline(place, color=plots.COLOURS[1], linewidth=1.5, linestyle="--")
    axes.text(place - 0.1, 0.8, f"mean {mean:.0f}", color=plots.COLOURS[1], fontsize=9, ha="right")
    _number_axis(axes, [-10, -1, 0, 1, 10, 100, 1000, 10_000])
    return plots.Picture(figure, alt)


def _number_axis(axes: plots.Axes, numbers: Sequence[float]) -> None:
    places = np.sign(numbers) * np.log1p(np.abs(numbers))
    axes.set_xticks(places, [f"{number:,}" for number in numbers])
    axes.set_xlim(places[0], places[-1])


def said_over_worth(learned: Mapping[str, np.ndarray], alt: str) -> plots.Picture:
    """Ratios (seeds, games) of each loss as dots, for the games that pay 1 and 1000; the dashed line is right."""
    figure = plots.new_figure(7.0, 2.8)
    title = "said / worth, a dot for each of three seeds; the dashed line at 1 is right"
    axes = plots.tidy(figure.subplots(), title, "", "ratio")
    for i, (kind, shares) in enumerate(learned.items()):
        for game in (1, 2):
            places = np.full(len(shares), game + 0.18 * (i - 1.5))
            label = kind if game == 1 else None
            axes.plot(places, shares[:, game], "osD^"[i], color=plots.COLOURS[i], label=label)
    axes.axhline(1.0, color="0.4", linewidth=0.8, linestyle="--")
    axes.set(xticks=[1, 2], xticklabels=["game that pays 1", "game that pays 1000"], xlim=(0.5, 3.4))
    axes.legend(fontsize=8, frameon=False, loc="center right")
    return plots.Picture(figure, alt)


def by_decade(names: Sequence[str], added: np.ndarray, worth: float, alt: str) -> plots.Picture:
    """What the bins of each range of ``names`` add to a mean, (seeds, ranges), beside what the mean should be."""
    figure = plots.new_figure(7.0, 2.6)
    title = "what the bins of each size add to the mean, three seeds"
    axes = plots.tidy(figure.subplots(), title, "|bin|", "added to the mean")
    for seed, values in enumerate(added):
        axes.bar(np.arange(len(names)) + 0.25 * (seed - 1), values, width=0.22, color=plots.COLOURS[seed])
    axes.axhline(worth, color="0.4", linewidth=0.8, linestyle="--")
    axes.text(len(names) - 0.5, worth, f"worth {worth:.3f}", fontsize=8, va="bottom", ha="right", color="0.3")
    axes.set_xticks(range(len(names)), names)
    return plots.Picture(figure, alt)
