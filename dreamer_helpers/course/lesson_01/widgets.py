"""The explorers of lesson 01."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets
import numpy as np
import torch

from dreamer_helpers import plots
from dreamer_helpers.symlog import symexp, symlog, symlog_slope
from dreamer_helpers.widgets.explorer import Explorer


class SymlogExplorer(Explorer):
    """symlog, its slope and its inverse around a point that one moves; the size of numbers goes by powers of ten."""

    def __init__(self) -> None:
        size = widgets.FloatSlider(value=1.0, min=-2.0, max=6.0, step=0.25, description="power of 10")
        sign = widgets.ToggleButtons(options=["+", "-"], description="sign", style={"button_width": "40px"})
        super().__init__({"power": size, "sign": sign})

    def prepare(self) -> None:
        """Three panels: the curve, its slope, the inverse."""
        titles = ("symlog(x)", "slope of symlog", "symexp(y), the way back")
        self.axes = [plots.tidy(a, t) for a, t in zip(self.figure.subplots(1, 3), titles, strict=True)]
        self.lines = [a.plot([0], [0], color=plots.COLOURS[i], linewidth=2)[0] for i, a in enumerate(self.axes)]
        self.identity = self.axes[0].plot([0], [0], ":", color="0.5", linewidth=1)[0]
        self.dots = [a.plot([0], [0], "o", color="black", markersize=6)[0] for a in self.axes]
        for axes in self.axes:
            axes.locator_params(nbins=4)  # ticks are most of the time of a redraw
        self.axes[0].set_xlabel("x", fontsize=9)
        self.axes[1].set_xlabel("x", fontsize=9)
        self.axes[2].set_xlabel("y", fontsize=9)

    def update(self, power: float, sign: str) -> str:
        """Zoom to twice the size of the point, and put the point there."""
        x = (10.0**power) * (1 if sign == "+" else -1)
        limit = 2 * abs(x)
        grid = torch.linspace(-limit, limit, 401)
        point = torch.tensor(x)
        y, top = symlog(point).item(), symlog(torch.tensor(limit)).item()
        back = torch.linspace(-top, top, 401)
        for line, (a, b) in zip(
            self.lines, ((grid, symlog(grid)), (grid, symlog_slope(grid)), (back, symexp(back))), strict=True
        ):
            line.set_data(a.numpy(), b.numpy())
        self.identity.set_data(grid.numpy(), grid.numpy())
        slope = symlog_slope(point).item()
        for dot, place in zip(self.dots, ((x, y), (x, slope), (y, x)), strict=True):
            dot.set_data([place[0]], [place[1]])
        reach = limit if limit <= 2 else 1.1 * top  # near 0 equal axes show how close symlog keeps to y = x
        for axes, (wide, low, high) in zip(
            self.axes, ((limit, -reach, reach), (limit, 0, 1.05), (top, -limit, limit)), strict=True
        ):
            axes.set_xlim(-wide, wide)
            axes.set_ylim(low, high)
        short = f"{100 * (1 - y / x):.2g} % short of x"
        return f"At x = {x:g}, symlog is {y:.4g}, {short}; its slope is {slope:.2g}, and symexp leads back to {x:g}."


class RewardHistogram(Explorer):
    """Rewards of several tasks in one histogram, mixed between as they are (0) and their symlog (1)."""

    def __init__(self, rewards: Mapping[str, np.ndarray]):
        self.rewards = {name: torch.as_tensor(values, dtype=torch.float32) for name, values in rewards.items()}
        mode = widgets.ToggleButtons(options=["as they are", "symlog"], description="rewards")
        super().__init__({"shown": mode})

    def prepare(self) -> None:
        """One row of dots for each task: histograms of numbers so unlike would show one bar each."""
        self.axes = plots.tidy(self.figure.subplots(), "each dot is a reward", "value")
        rng = np.random.default_rng(0)
        self.dots = []
        for row, (name, values) in enumerate(self.rewards.items()):
            height = row + rng.uniform(-0.28, 0.28, len(values))
            self.dots.append(self.axes.plot(values, height, ".", markersize=3, color=plots.COLOURS[row], label=name)[0])
        self.axes.set_yticks(range(len(self.rewards)), list(self.rewards), fontsize=9)
        self.axes.set_ylim(-0.6, len(self.rewards) - 0.4)

    def update(self, shown: str) -> str:
        """Put every dot where it belongs."""
        transform = symlog if shown == "symlog" else (lambda x: x)
        values = [transform(x) for x in self.rewards.values()]
        for dots, row in zip(self.dots, values, strict=True):
            dots.set_xdata(row.numpy())
        low, high = min(v.min().item() for v in values), max(v.max().item() for v in values)
        room = 0.05 * (high - low)
        self.axes.set_xlim(low - room, high + room)
        shares = [100 * (v.max() - v.min()).item() / (high - low) for v in values]
        widths = ", ".join(
            f"{name} {share:.2g} %" if share < 99.5 else f"{name} 100 %"
            for name, share in zip(self.rewards, shares, strict=True)
        )
        return f"Shown {shown}. Share of the axis that each task takes up: {widths}."
