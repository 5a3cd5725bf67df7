"""Figures that say in words what they show, in colours that colour-blind readers can tell apart."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dreamer_helpers.video import Shown, to_uint8

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dreamer_helpers.dreams import OpenLoop

# Okabe and Ito's palette without its yellow, which is faint on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


class Picture(Shown):
    """A figure as the output of a cell: a PNG on white, readable in the dark theme too, and its description."""

    def __init__(self, figure: Figure, alt: str, caption: str = ""):
        super().__init__(render(figure), alt, caption)


def render(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", pil_kwargs={"compress_level": 6})
    return buffer.getvalue()


def new_figure(width: float = 7.0, height: float = 2.6, **layout: object) -> Figure:
    """An empty figure, sizes in inches. It belongs to no global list, so nothing has to be closed."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained", **layout)


def message(text: str) -> Figure:
    """A line of text where a figure will be."""
    figure = new_figure(8.5, 0.6)
    figure.text(0.01, 0.5, text, va="center", fontsize=10, color="0.3")
    return figure


def tidy(axes: Axes, title: str, xlabel: str = "", ylabel: str = "") -> Axes:
    """Title on the left, no frame at the top and right, faint lines."""
    axes.set_title(title, loc="left", fontsize=10, y=1.0)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return axes


def fix_labels(axes: Axes) -> None:
    """Keep the labels of a drawn figure where they are; matplotlib else measures all tick labels at every drawing."""
    below, left = axes.xaxis.label.get_position()[1], axes.yaxis.label.get_position()[0]
    x, y = axes.transAxes.inverted().transform((left, below))
    axes.xaxis.set_label_coords(0.5, y)
    axes.yaxis.set_label_coords(x, 0.5)


def draw_returns(axes: Axes, episodes: Sequence[tuple[int, float, int]], total_steps: int) -> None:
    """Each episode of a training as a dot at the step where it ended, and the mean of the last ten as a line."""
    tidy(axes, "return of each episode, and mean of ten", "environment step")
    axes.set_xlim(0, total_steps)
    if episodes:
        steps, returns = np.array([e[0] for e in episodes]), np.array([e[1] for e in episodes])
        axes.plot(steps, returns, ".", color=COLOURS[4], markersize=3, alpha=0.6)
        mean = [returns[max(0, i - 9) : i + 1].mean() for i in range(len(returns))]
        axes.plot(steps, mean, color=COLOURS[0], linewidth=1.5)


def draw_losses(axes: Axes, log: Sequence[Mapping[str, float]], total_steps: int) -> None:
    """The world model's losses over the steps of a training, on a logarithmic scale."""
    tidy(axes, "what the world model gets wrong", "environment step")
    axes.set_xlim(0, total_steps)
    rows = [row for row in log if "loss/dyn" in row]
    if rows:
        names = [key for key in rows[-1] if key.startswith("loss/")]
        names = [n for n in names if n.split("/")[1] not in ("rep", "actor", "critic", "replay_critic")]
        for colour, name in zip(COLOURS, names, strict=False):
            points = [(row["steps"], row[name]) for row in rows]
            axes.plot(*zip(*points, strict=True), label=name.removeprefix("loss/"), color=colour, linewidth=1.3)
        axes.set_yscale("log")
        axes.legend(fontsize=7, ncols=2, frameon=False, loc="upper right")


def draw_dream(axes: Axes, dream: OpenLoop, names: Sequence[str] = ()) -> None:
    """Reality and the dream of the same actions: frames in two rows, or a line and dots for each number observed.

    ``names`` are those of the numbers.
    """
    if dream.is_image:
        _draw_filmstrip(axes, dream)
    else:
        _draw_lines(axes, dream, names)


def draw_frames(axes: Axes, films: Sequence[np.ndarray], title: str, labels: Sequence[str] | None = None) -> None:
    """Films (T, H, W, 3) as rows of frames, one under the other; ``labels`` (T,) stand under the columns."""
    rows = [to_uint8(film) for film in films]
    count, height, width = rows[0].shape[:3]
    gap = max(1, width // 8)
    sheet = np.full((len(rows) * (height + gap) - gap, count * (width + gap) - gap, 3), 255, np.uint8)
    for i, film in enumerate(rows):
        for t, frame in enumerate(film):
            y, x = i * (height + gap), t * (width + gap)
            sheet[y : y + height, x : x + width] = frame
    axes.imshow(sheet, interpolation="nearest")
    axes.set_title(title, loc="left", fontsize=10, y=1.0)
    axes.set_xticks([t * (width + gap) + (width - 1) / 2 for t in range(count)])
    axes.set_xticklabels(labels or [str(t) for t in range(count)])
    axes.set_yticks([])
    axes.tick_params(labelsize=8, length=0)
    axes.spines[:].set_visible(False)


def _draw_filmstrip(axes: Axes, dream: OpenLoop) -> None:
    labels = ["seen" if t < dream.context else f"+{t + 1 - dream.context}" for t in range(len(dream.real))]
    draw_frames(axes, [dream.real, dream.dreamed], "reality above, the dream below", labels)


def _draw_lines(axes: Axes, dream: OpenLoop, names: Sequence[str]) -> None:
    tidy(axes, "reality (line) and the dream (dots)", "step of the episode")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axvspan(0, dream.context - 1, color="0.93")
    axes.text(0.2, 0.98, "seen", transform=axes.get_xaxis_transform(), va="top", fontsize=8, color="0.3")
    names = names or [f"entry {i}" for i in range(dream.real.shape[1])]
    for i in range(min(dream.real.shape[1], len(COLOURS))):
        axes.plot(dream.real[:, i], color=COLOURS[i], linewidth=1.3, label=names[i])
        steps = np.arange(dream.context, len(dream.dreamed))
        axes.plot(steps, dream.dreamed[dream.context :, i], "o", color=COLOURS[i], markersize=3)
    axes.legend(fontsize=8, ncols=4, frameon=False, loc="lower right", bbox_to_anchor=(1.0, 1.0))


def dream_picture(dream: OpenLoop, alt: str, names: Sequence[str] = ()) -> Picture:
    """One open-loop dream beside reality as a figure."""
    figure = new_figure(7.5, 2.4 if dream.is_image else 2.8)
    draw_dream(figure.subplots(), dream, names)
    return Picture(figure, alt)


def training_figure(
    episodes: Sequence[tuple[int, float, int]], log: Sequence[Mapping[str, float]], total_steps: int,
    dream: OpenLoop | None = None,
) -> Figure:  # fmt: skip
    """Returns and losses side by side, and under them the newest dream, if there is one."""
    figure = new_figure(8.5, 4.8 if dream is not None else 2.6)
    top = figure
    if dream is not None:
        top, bottom = figure.subfigures(2, 1)
        draw_dream(bottom.subplots(), dream)
    left, right = top.subplots(1, 2)
    draw_returns(left, episodes, total_steps)
    draw_losses(right, log, total_steps)
    return figure
