"""Train the learning table of the README: every task, every seed, one preset.

    python tests/benchmarks/learning.py [--jobs 2] [--tasks CartPole-v1 ...] [--table]

Each run is the command line of the package in a process of its own, on one thread. Reports and curves go to
``data/results.json``, the table into the README between its two marks. ``--table`` only writes the table anew.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS, README = ROOT / "data" / "results.json", ROOT / "README.md"
BEGIN, END = "<!-- results: written by make results -->", "<!-- end of results -->"
PRESET, EPISODES, SEEDS = "cpu", 100, range(5)
TASKS = {"CartPole-v1": 10_000, "Pendulum-v1": 8_000, "dreamer_helpers/TMaze-v0": 12_000}
"""Environment steps for each task."""


def run(env: str, steps: int, seed: int) -> dict[str, Any]:
    """Train one agent; returns its report, with the curve of its log in place of the configuration."""
    with tempfile.TemporaryDirectory() as folder:
        report, log = Path(folder) / "report.json", Path(folder) / "log.jsonl"
        command = [
            sys.executable, "-m", "dreamer_helpers.train", "--env", env, "--preset", PRESET, "--seed", str(seed),
            "--steps", str(steps), "--eval-episodes", str(EPISODES), "--device", "cpu", "--logdir", folder,
            "--report", str(report),
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        result = json.loads(report.read_text())
        rows = [json.loads(line) for line in log.read_text().splitlines()]
    result["curve"] = [[row["steps"], round(row["return"], 3)] for row in rows if row["return"] == row["return"]]
    print(f"{env} seed {seed}: {result['eval_mean']:g} greedy, {result['cpu_s']:.0f} CPU s", flush=True)
    return result


def run_all(tasks: list[str], jobs: int) -> dict[str, Any]:
    """All seeds of the named tasks, so many at a time; earlier results of other tasks are kept."""
    wanted = [(env, TASKS[env], seed) for env in tasks for seed in SEEDS]
    with ThreadPoolExecutor(jobs) as pool:
        reports = list(pool.map(lambda job: run(*job), wanted))
    settings = reports[0]["config"]
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"config": settings, "runs": []}
    if old["config"] != settings:
        old["runs"] = []
    kept = [r for r in old["runs"] if r["env"] not in tasks]
    runs = kept + [{k: v for k, v in r.items() if k != "config"} for r in reports]
    return {"preset": PRESET, "config": settings, "runs": sorted(runs, key=lambda r: (r["env"], r["seed"]))}


def table(results: dict[str, Any]) -> str:
    """The results as lines of Markdown, the worst seed of each task in bold."""
    lines = [
        "| task | steps | seed | greedy mean (worst episode) | sampled mean | updates | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for env in TASKS:
        runs = [r for r in results["runs"] if r["env"] == env]
        if not runs:
            continue
        worst = min(r["eval_mean"] for r in runs)
        for r in runs:
            mark = "**" if r["eval_mean"] == worst else ""
            lines.append(
                f"| {env} | {r['steps']:,} | {r['seed']} | {mark}{r['eval_mean']:.4g}{mark} ({r['eval_min']:.4g}) "
                f"| {r['eval_sampled_mean']:.4g} | {r['updates']:,} | {r['cpu_s']:.0f} |"
            )
        middle = statistics.median(r["eval_mean"] for r in runs)
        lines.append(f"| {env} | | median | {middle:.4g} | | | {statistics.median(r['cpu_s'] for r in runs):.0f} |")
    return "\n".join(lines)


def with_table(readme: str, results: dict[str, Any]) -> str:
    """The README with the table between its marks. Raises ValueError if a mark is missing."""
    if BEGIN not in readme or END not in readme:
        raise ValueError(f"the README lacks the line {BEGIN} or {END}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--table", action="store_true", help="write the table from data/results.json, train nothing")
    options = parser.parse_args()
    if not options.table:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(run_all(options.tasks, options.jobs), indent=1) + "\n")
    README.write_text(with_table(README.read_text(), json.loads(RESULTS.read_text())))
    print(table(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
