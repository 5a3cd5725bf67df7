"""The explorers of lesson 02."""

from __future__ import annotations

import ipywidgets as widgets
import numpy as np
import torch

from dreamer_helpers import plots
from dreamer_helpers.symlog import symexp, symexp_bins, symlog, two_hot_encoding
from dreamer_helpers.widgets.explorer import Explorer


class TwoHotExplorer(Explorer):
    """A number that one moves, and the two bins that share it. The axis is that of symlog, where bins are even."""

    STOPS = (1.28, 3.68, -1.28, -3.68)
    """Places that the lesson looks at: both bars are equally high there."""

    def __init__(self, n: int = 11, limit: float = 4.0):
        self.bins = symexp_bins(n, limit)
        slider = widgets.FloatSlider(value=1.5, min=-limit, max=limit, step=0.05, description="symlog of x")
        super().__init__({"y": slider})

    def prepare(self) -> None:
        """Bars of the encoding over the bins, and a mark where the number is."""
        places = symlog(self.bins).numpy()
        self.axes = plots.tidy(self.figure.subplots(), "two-hot encoding of x (orange line)", "bins", "weight")
        self.bars = self.axes.bar(places, np.zeros(len(places)), width=0.5, color=plots.COLOURS[0])
        self.mark = self.axes.plot([0, 0], [0, 1.08], color=plots.COLOURS[1], linewidth=2)[0]
        self.axes.set_xticks(places, [f"{b:.3g}" for b in self.bins.tolist()], fontsize=8)
        self.axes.set_ylim(0, 1.1)

    def update(self, y: float) -> str:
        """Set the heights of the bars."""
        x = symexp(torch.tensor(y))
        encoding = two_hot_encoding(x, self.bins)
        for bar, height in zip(self.bars, encoding.tolist(), strict=True):
            bar.set_height(height)
        self.mark.set_xdata([y, y])
        parts = [f"{w:.2f} on {self.bins[i]:.3g}" for i, w in enumerate(encoding.tolist()) if w > 0]
        how = "is shared" if len(parts) > 1 else "lies on a bin"
        return f"x = {x.item():.3g} {how}: {' and '.join(parts)}; the mean is {(encoding * self.bins).sum():.3g}."


class LotteryExplorer(Explorer):
    """A prize with a chance, else nothing: what the average over raw bins says, and what that over symlog bins says."""

    STOPS = ((0.72, 3.0), (0.01, 3.0), (0.53, 0.0))
    """Chances and powers that the lesson looks at: the largest difference, the largest ratio, a small prize."""

    def __init__(self) -> None:
        chance = widgets.FloatSlider(value=0.1, min=0.0, max=1.0, step=0.01, description="chance")
        prize = widgets.FloatSlider(value=3.0, min=0.0, max=5.0, step=0.25, description="prize 10^")
        super().__init__({"chance": chance, "power": prize})

    def prepare(self) -> None:
        """Both estimates over all chances, and a dot on each."""
        self.axes = plots.tidy(
            self.figure.subplots(), "what the ticket is said to be worth", "chance", "share of prize"
        )
        self.chances = torch.linspace(0, 1, 201)
        self.lines = [
            self.axes.plot([0], [0], color=plots.COLOURS[i], linewidth=2, label=label)[0]
            for i, label in ((0, "mean of raw bins (today)"), (1, "symexp of the mean of symlogs (2023)"))
        ]
        self.dots = [self.axes.plot([0], [0], "o", color=plots.COLOURS[i], markersize=7)[0] for i in (0, 1)]
        self.gap = self.axes.plot([0, 0], [0, 0], color="0.4", linewidth=1.2, linestyle=":", zorder=1)[0]
        self.gap_size = self.axes.text(0, 0, "", fontsize=8, color="0.3", va="center")
        self.axes.set_xlim(0, 1)
        self.axes.set_ylim(-0.03, 1.03)
        self.axes.legend(fontsize=8, frameon=False, loc="upper left")

    def update(self, chance: float, power: float) -> str:
        """Draw both for this prize."""
        prize = torch.tensor(10.0**power, dtype=torch.float64)
        old = symexp(chance * symlog(prize)).item()
        heights = (chance, old / prize.item())
        curves = (self.chances, symexp(self.chances * symlog(prize)) / prize)
        for line, dot, curve, height in zip(self.lines, self.dots, curves, heights, strict=True):
            line.set_data(self.chances.numpy(), curve.numpy())
            dot.set_data([chance], [height])
        difference = abs(round(chance * prize.item() - old, 6))  # at a chance of 1 there is none
        self.gap.set_data([chance, chance], heights)
        left = chance > 0.2  # of the dots, above the straight line, where there is room
        place = (chance - 0.015 if left else chance + 0.015, chance + 0.05 if left else 0.35)
        self.gap_size.set(position=place, text=f"gap {difference:.3g}", ha="right" if left else "left")
        return (
            f"A prize of {prize.item():g} with a chance of {chance:.2f} is worth {chance * prize.item():.4g}. "
            f"The mean of raw bins says so; symlog bins say {old:.4g}, a difference of {difference:.3g}."
        )
