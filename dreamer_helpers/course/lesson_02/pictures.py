"""The pictures of lesson 02."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from dreamer_helpers import plots
from dreamer_helpers.symlog import symlog


def ticket(bins: Tensor, probabilities: Tensor, mean: float) -> plots.Picture:
    """A distribution over bins, (n,) each, from -10 to 10,000 on the axis of symlog, and its mean as a dashed line."""
    figure = plots.new_figure(7.0, 2.6)
    axes = plots.tidy(figure.subplots(), "what the network says about the ticket", "paid (bins)", "probability")
    axes.bar(symlog(bins).numpy(), probabilities.numpy(), width=0.14, color=plots.COLOURS[0])
    place = symlog(bins.new_tensor(mean)).item()
    axes.axvline(place, color=plots.COLOURS[1], linewidth=1.5, linestyle="--")
    axes.text(place - 0.1, 0.8, f"mean {mean:.0f}", color=plots.COLOURS[1], fontsize=9, ha="right")
    said = []
    for i in probabilities.gt(0.003).nonzero().flatten().tolist():  # the bars that one can see
        number, height = f"{bins[i]:.0f}", probabilities[i].item()
        side, step = ("right", -0.12) if i + 1 < len(bins) and probabilities[i + 1] > height else ("left", 0.12)
        axes.text(symlog(bins[i]) + step, height + 0.005, f"bin {number}: {height:.3f}", fontsize=8, ha=side)
        said.append(f"{height:.3f} on {number}")
    _number_axis(axes, [-10, -1, 0, 1, 10, 100, 1000, 10_000])
    alt = f"Bars of probability over the bins from -10 to 10,000: {', '.join(said)}, and next to nothing elsewhere. "
    return plots.Picture(figure, f"{alt}The dashed line of the mean stands at {mean:.0f}, where there is no bar.")


def _number_axis(axes: plots.Axes, numbers: Sequence[float]) -> None:
    places = np.sign(numbers) * np.log1p(np.abs(numbers))
    axes.set_xticks(places, [f"{number:,}" for number in numbers])
    axes.set_xlim(places[0], places[-1])


def said_over_worth(learned: Mapping[str, np.ndarray]) -> plots.Picture:
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
    axes.set(xticks=[1, 2], xticklabels=["game that pays 1", "game that pays 1000"], xlim=(0.5, 2.5))
    figure.legend(fontsize=8, frameon=False, loc="outside right center", title="left to right", title_fontsize=8)
    axes.text(0.5, 0.5, "the game that pays 0.001 is off\nthis scale: see the table", transform=axes.transAxes,
              fontsize=8, color="0.3", ha="center", va="center")  # fmt: skip
    said = [
        f"{kind} {' '.join(f'{v:.2f}' for v in shares[:, 1])} and {' '.join(f'{v:.2f}' for v in shares[:, 2])}"
        for kind, shares in learned.items()
    ]
    alt = f"Said over worth of three seeds, in the game that pays 1 and in the game that pays 1000: {'; '.join(said)}."
    return plots.Picture(figure, f"{alt} The game that pays 0.001 is off the scale and left out.")


GREYS = ("0.25", "0.5", "0.75")  # seeds, whose colours are not those of the four losses
HATCHES = ("", "//", "..")


def by_size(names: Sequence[str], added: np.ndarray, worth: float) -> plots.Picture:
    """What the bins of each range of ``names`` add to a mean, (seeds, ranges), beside what the mean should be."""
    figure = plots.new_figure(7.0, 2.6)
    title = "what the bins of each size add to the mean; three seeds, three greys"
    axes = plots.tidy(figure.subplots(), title, "|bin|", "added to the mean")
    for seed, values in enumerate(added):
        axes.bar(np.arange(len(names)) + 0.25 * (seed - 1), values, width=0.22, color=GREYS[seed],
                 hatch=HATCHES[seed], edgecolor="white", linewidth=0, label=f"seed {seed}")  # fmt: skip
    axes.axhline(worth, color="0.4", linewidth=0.8, linestyle="--")
    axes.text(len(names) - 0.5, worth, f"worth {worth:.3f}", fontsize=8, va="bottom", ha="right", color="0.3")
    axes.legend(fontsize=8, frameon=False, loc="center")
    axes.set_xticks(range(len(names)), names)
    said = ", ".join(f"{name} {values.mean():.3f}" for name, values in zip(names, added.T, strict=True))
    alt = (
        f"Bars for seven ranges of |bin| and three seeds: what they add to the mean, on average over the seeds: {said}."
    )
    return plots.Picture(figure, f"{alt} The dashed line of what is right stands at {worth:.3f}.")


def along_u(u: np.ndarray, ratios: np.ndarray, from_u: float) -> plots.Picture:
    """Said over worth against u (points,) of each seed (seeds, points); from ``from_u`` on the ground is shaded."""
    figure = plots.new_figure(7.0, 2.8)
    title = "said / worth in the game that pays 1, three seeds; the dashed line at 1 is right"
    axes = plots.tidy(figure.subplots(), title, "u", "ratio")
    for seed, (values, dashes) in enumerate(zip(ratios, ("-", "--", ":"), strict=True)):
        axes.plot(u, values, dashes, color=GREYS[seed // 2], linewidth=1.8, label=f"seed {seed}")
    axes.axhline(1.0, color="0.4", linewidth=0.8, linestyle="--")
    axes.axvspan(from_u, 1.0, color=plots.COLOURS[5], alpha=0.2, linewidth=0)
    axes.text(
        from_u - 0.01, axes.get_ylim()[1], "here the large game\nneeds the bin 1021", fontsize=8, ha="right", va="top"
    )
    axes.set(xlim=(u[0], 1.0))
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    places = [np.abs(u - at).argmin() for at in (0.2, 0.5, 0.8, 1.0)]
    said = "; ".join(f"at u = {u[i]:.1f} {' '.join(f'{v:.2f}' for v in ratios[:, i])}" for i in places)
    return plots.Picture(figure, f"Said over worth against u, three seeds: {said}. Shaded from {from_u:.2f} on.")
