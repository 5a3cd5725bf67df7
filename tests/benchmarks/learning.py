"""Train the learning table of the README: every task, every seed, one preset.

    python tests/benchmarks/learning.py [--jobs 2] [--tasks CartPole-v1 ...] [--missing] [--table]

Each run is the command line of the package in a process of its own, on one thread. Reports and curves go to
``data/results.json``, the figure to ``data/learning.png``, the table into the README between its two marks.
``--table`` only draws figure and table anew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from dreamer_helpers import checkpoint, dreams, plots
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.checkpoint import AGENT_FILE, TRAINING_FILE
from dreamer_helpers.config import preset

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RESULTS, FIGURE, README = ROOT / "data" / "results.json", ROOT / "data" / "learning.png", ROOT / "README.md"
BEGIN, END = "<!-- results: written by make results -->", "<!-- end of results -->"
PRESET = "cpu"


@dataclass(frozen=True)
class Task:
    """One row of tasks: its title, environment steps, seeds, and evaluation episodes ("all": every start)."""

    title: str
    steps: int
    possible: tuple[float, float]  # the smallest and the largest return of an episode, in the task's unit
    seeds: int = 5
    episodes: int | str = 100
    unit: float = 1.0  # of the return
    dreams: bool = False  # whether its dreams are measured


WORST_SWING = 200 * -(np.pi**2 + 0.1 * 8.0**2 + 0.001 * 2.0**2)  # Pendulum-v1: upside down, at full speed and torque
TASKS = {
    "CartPole-v1": Task("CartPole-v1", 10_000, (0, 500)),
    "Pendulum-v1": Task("Pendulum-v1", 8_000, (WORST_SWING, 0)),
    "dreamer_helpers/TMaze-v0": Task("T-maze in pixels", 12_000, (0, 1), dreams=True),
    "dreamer_helpers/Catch-v0": Task("Catch in pixels, all starts", 15_000, (0, 1), episodes="all"),
    "dreamer_helpers/Orchard-v0": Task("Orchard in pixels", 12_000, (-5, 3), dreams=True),
    "Acrobot-v1": Task("Acrobot-v1", 18_000, (-500, 0), seeds=3),
    "tasks:MiniGridEmpty5x5-v0": Task("MiniGrid-Empty-5x5 in pixels", 12_000, (0, 1), seeds=3),
    "tasks:CartPoleMilli-v0": Task("CartPole-v1, rewards x 0.001", 10_000, (0, 500), seeds=3, unit=0.001),
    "tasks:CartPoleKilo-v0": Task("CartPole-v1, rewards x 1000", 10_000, (0, 500), seeds=3, unit=1000.0),
}
"""The tasks of the table, by environment. The last four were first run after the preset was frozen."""


def run(env: str, seed: int, steps: int | None = None, episodes: int | str | None = None) -> dict[str, Any]:
    """Train one agent; returns its report, with the curve of its log. Other steps and episodes make a short trial."""
    task = TASKS[env]
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder) / "report.json", Path(folder) / "log.jsonl"
        command = [
            sys.executable, "-m", "dreamer_helpers.train", "--env", env, "--preset", PRESET, "--seed", str(seed),
            "--steps", str(steps or task.steps), "--eval-episodes", str(episodes or task.episodes), "--device", "cpu",
            "--logdir", folder, "--report", str(report),
        ]  # fmt: skip
        paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{env}, seed {seed}: {done.stderr.strip().splitlines()[-1]}")
        result = json.loads(report.read_text())
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        if task.dreams:
            result["dreams"] = dream_quality(Path(folder), env)
    result["curve"] = [[row["steps"], round(row["return"], 6)] for row in rows if row["return"] is not None]
    return result


def dream_quality(folder: Path, env: str, episodes: int = 100, context: int = 5, horizon: int = 15) -> dict[str, float]:
    """How right dreams are in layouts that the training in ``folder`` never began with, under random actions.

    After ``context`` frames the model dreams up to ``horizon`` frames of the same episode from the actions alone.
    ``error`` is the mean squared error of its pixels, ``copy`` that of repeating the last frame seen, ``exact`` the
    share of frames in which no pixel is off by more than a quarter.
    """
    agent = DreamerV3.from_checkpoint(folder / AGENT_FILE)
    replay = checkpoint.load_training(folder / TRAINING_FILE)["replay"]["data"]
    trained = {image.tobytes() for image in replay["image"][replay["is_first"]]}
    errors, copies, exact, number = [], [], [], 0
    while len(errors) < episodes:
        number += 1
        episode = dreams.random_episode(env, seed=2_000_000 + number, max_steps=context + horizon)
        known = episode.obs["image"][0].tobytes() in trained and env not in FEW_LAYOUTS
        if known or len(episode) <= context:
            continue
        loop = dreams.open_loop(agent, episode, context, seed=number)
        real = loop.real / 255.0
        distance = np.abs(loop.dreamed - real)[context:]
        errors.append(np.square(distance).mean())
        copies.append(np.square(real[context - 1] - real[context:]).mean())
        exact += (distance.max((1, 2, 3)) < 0.25).tolist()
    return {
        "error": float(np.mean(errors)), "copy": float(np.mean(copies)), "exact": float(np.mean(exact)),
        "frames": len(exact),
    }  # fmt: skip


FEW_LAYOUTS = ("dreamer_helpers/TMaze-v0",)  # has two, and both are trained on


def run_all(tasks: list[str], jobs: int, missing: bool) -> None:
    """All seeds of the named tasks, so many at a time; every result is written as soon as it is there.

    Results of other tasks are kept, and with ``missing`` all of today's settings and steps.
    """
    results = load()
    done = {(r["env"], r["seed"]) for r in results["runs"] if within_budget(r)} if missing else set()
    wanted = [(env, seed) for env in tasks for seed in range(TASKS[env].seeds) if (env, seed) not in done]
    results["runs"] = [r for r in results["runs"] if (r["env"], r["seed"]) not in wanted]
    writing = threading.Lock()

    def one(job: tuple[str, int]) -> None:
        result = run(*job)
        with writing:
            results["runs"].append({key: value for key, value in result.items() if key != "config"})
            results["runs"].sort(key=lambda r: (list(TASKS).index(r["env"]), r["seed"]))
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{job[0]} seed {job[1]}: {result['eval_mean']:g} greedy, {result['cpu_s']:.0f} CPU s", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, wanted))


def load() -> dict[str, Any]:
    """The results so far: nothing, if they belong to other settings."""
    settings = json.loads(json.dumps(preset(PRESET).to_dict()))
    if RESULTS.exists() and (old := json.loads(RESULTS.read_text()))["config"] == settings:
        return {**old, "runs": [r for r in old["runs"] if r["env"] in TASKS]}
    return {"preset": PRESET, "config": settings, "runs": []}


def within_budget(run: dict[str, Any]) -> bool:
    """Whether a run made as many steps as its task has today."""
    steps = TASKS[run["env"]].steps
    return steps - preset(PRESET).num_envs < run["steps"] <= steps


def of_task(results: dict[str, Any], env: str) -> list[dict[str, Any]]:
    """The runs of one task, in the order of seeds."""
    return [r for r in results["runs"] if r["env"] == env]


def table(results: dict[str, Any]) -> str:
    """The results as lines of Markdown, the worst seed of each task in bold."""
    lines = [
        "| task | steps | greedy mean, by seed | median | worst episode | sampled mean, by seed | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for env, task in TASKS.items():
        runs = of_task(results, env)
        if not runs:
            continue
        greedy, sampled = ([r[key] / task.unit for r in runs] for key in ("eval_mean", "eval_sampled_mean"))
        marked = [f"**{x:.4g}**" if x == min(greedy) else f"{x:.4g}" for x in greedy]
        seconds = [r["cpu_s"] for r in runs]
        lines.append(
            f"| {task.title} | {task.steps:,} | {', '.join(marked)} | {statistics.median(greedy):.4g} "
            f"| {min(r['eval_min'] for r in runs) / task.unit:.4g} | {', '.join(f'{x:.4g}' for x in sampled)} "
            f"| {min(seconds):.0f} to {max(seconds):.0f} |"
        )
    return "\n".join(lines)


def dream_table(results: dict[str, Any]) -> str:
    """How right the dreams are, as lines of Markdown, the worst seed in bold."""
    lines = [
        "| dreams of | error, share of copying the last frame, by seed | exact frames, by seed | frames |",
        "| --- | --- | --- | --- |",
    ]
    for env, task in TASKS.items():
        runs = [r["dreams"] for r in of_task(results, env) if task.dreams]
        if not runs:
            continue
        ratios, exact = [d["error"] / d["copy"] for d in runs], [d["exact"] for d in runs]
        shares = ", ".join(f"**{x:.1%}**" if x == max(ratios) else f"{x:.1%}" for x in ratios)
        hits = ", ".join(f"**{x:.1%}**" if x == min(exact) else f"{x:.1%}" for x in exact)
        lines.append(f"| {task.title} | {shares} | {hits} | {sum(d['frames'] for d in runs):,} |")
    return "\n".join(lines)


def curves(results: dict[str, Any], env: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps (60,) that all runs of a task have reached, and each seed's mean return there, (seeds, 60)."""
    runs = [np.array(r["curve"]).T for r in of_task(results, env)]
    grid = np.linspace(max(c[0][0] for c in runs), min(c[0][-1] for c in runs), 60)
    return grid, np.stack([np.interp(grid, c[0], c[1] / TASKS[env].unit) for c in runs])


def interval(values: np.ndarray, possible: tuple[float, float] = (-np.inf, np.inf)) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the mean over seeds, (seeds, ...) -> two of (...), cut to what is possible.

    By Student's t. For 3 and 5 seeds, 1.96 standard errors cover the mean in 81 and 88 of 100 cases, the percentile
    bootstrap in 75 and 85, the one called BCa in 72 and 86.
    """
    mean, half = values.mean(0), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return np.clip(mean - half, *possible), np.clip(mean + half, *possible)


def figure(results: dict[str, Any]) -> bytes:
    """Every task's curves as a PNG: each seed, their mean, and the 95 % interval of the mean."""
    tasks = [env for env in TASKS if of_task(results, env)]
    rows = -(-len(tasks) // 3)
    drawing = plots.new_figure(10.5, 2.5 * rows)
    for number, env in enumerate(tasks):
        task, (grid, values) = TASKS[env], curves(results, env)
        axes = plots.tidy(drawing.add_subplot(rows, 3, number + 1), f"{task.title}, {len(values)} seeds")
        axes.fill_between(grid, *interval(values, task.possible), color=plots.COLOURS[5], alpha=0.35, linewidth=0)
        axes.plot(grid, values.T, color=plots.COLOURS[0], alpha=0.45, linewidth=0.8)
        axes.plot(grid, values.mean(0), color=plots.COLOURS[1], linewidth=1.8)
        for level, name in REFERENCES.get(env, ()):
            axes.axhline(level, color="0.5", linewidth=0.8, linestyle="--")
            axes.annotate(name, (task.steps, level), fontsize=7, color="0.3", va="bottom", ha="right")
        axes.set_xlim(0, task.steps)
        if number >= len(tasks) - 3:
            axes.set_xlabel("environment step", fontsize=9)
    return plots.render(drawing)


REFERENCES: dict[str, tuple[tuple[float, str], ...]] = {
    "CartPole-v1": ((500, "best"),),
    "dreamer_helpers/TMaze-v0": ((1, "best"), (0.5, "without memory")),
    "dreamer_helpers/Catch-v0": ((1, "best"), (0.125, "random")),
    "dreamer_helpers/Orchard-v0": ((3, "best"), (0.83, "random")),
}
"""Levels drawn into the figure; those of the course's worlds are computed by ``dreamer_helpers.bounds``."""


def with_table(readme: str, results: dict[str, Any]) -> str:
    """The README with the table between its marks. Raises ValueError if a mark is missing."""
    if BEGIN not in readme or END not in readme:
        raise ValueError(f"the README lacks the line {BEGIN} or {END}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}\n\n{dream_table(results)}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--missing", action="store_true", help="train only what is not in data/results.json yet")
    parser.add_argument("--table", action="store_true", help="draw figure and table from data/results.json only")
    options = parser.parse_args()
    if not options.table:
        RESULTS.parent.mkdir(exist_ok=True)
        run_all(options.tasks, options.jobs, options.missing)
    results = json.loads(RESULTS.read_text())
    FIGURE.write_bytes(figure(results))
    README.write_text(with_table(README.read_text(), results))
    print(table(results), dream_table(results), sep="\n\n")


if __name__ == "__main__":
    main()
