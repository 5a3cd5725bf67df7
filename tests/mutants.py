"""Faults that a re-implementation makes, planted one at a time: a test must see each.

    python tests/mutants.py [NAME ...]

Each mutant changes one place of the package in a copy of it, and the named tests run on that copy: they must fail. The
copy as it is must pass all of them, and a mutant whose place is no longer there is a failure too. Two run at a time.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIRING = ("tests/test_wiring.py",)
LEARNS_THE_SAME = ("tests/test_twins.py", "-k", "accelerated_agent_learns and cpu")


@dataclass(frozen=True)
class Mutant:
    """A fault: in a file of the package, ``old`` becomes ``new``; ``tests`` are arguments of pytest that see it."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = WIRING


MUTANTS = (
    # Seven that were once planted together, and all tests stayed green.
    Mutant(
        "zeros stored for h",
        "trainer.py",
        '"deter": latent.deter.cpu().numpy()',
        '"deter": 0 * latent.deter.cpu().numpy()',
    ),
    Mutant("latents refreshed one step off", "trainer.py", "update(index[:, 1:],", "update(index[:, :-1],"),
    Mutant(
        "dreams from the wrong end",
        "agent.py",
        "State(states.deter[:, -K:].flatten(0, 1), states.stoch[:, -K:].flatten(0, 1))",
        "State(states.deter[:, :K].flatten(0, 1), states.stoch[:, :K].flatten(0, 1))",
    ),
    Mutant(
        "act remembers another action",
        "agent.py",
        "AgentState(latent, action)",
        "AgentState(latent, action.roll(1, -1))",
    ),
    Mutant(
        "training acts greedily",
        "trainer.py",
        "self.agent.act(self.record, self.state)",
        "self.agent.act(self.record, self.state, greedy=True)",
    ),
    Mutant("last action not masked", "trainer.py", 'action[self.record["is_last"]] = 0.0', "pass"),
    Mutant(
        "learning rates swapped",
        "optim.py",
        "(agent.actor, config.actor_learning_rate or config.learning_rate),\n"
        "        (agent.critic.head, config.critic_learning_rate or config.learning_rate),",
        "(agent.actor, config.critic_learning_rate or config.learning_rate),\n"
        "        (agent.critic.head, config.actor_learning_rate or config.learning_rate),",
        (*WIRING, "-k", "learning_rate"),
    ),
    # Mistakes that are made over and over.
    Mutant("previous action not shifted", "agent.py", 'batch["action"][:, :-1]}', 'batch["action"][:, 1:]}'),
    Mutant(
        "context zeroed",
        "agent.py",
        'State(batch["deter"][:, 0], stoch.float())',
        'State(0 * batch["deter"][:, 0], stoch.float())',
    ),
    Mutant("beginnings leave the action", "world_model.py", "keep, prev_action * keep)", "keep, prev_action)"),
    Mutant(
        "rewards one step early",
        "actor_critic.py",
        "returns = compute_returns(dream.rewards, values",
        "returns = compute_returns(dream.rewards.roll(1, 1), values",
    ),
    Mutant(
        "the start's own end ignored",
        "actor_critic.py",
        "continues[:, 0] = 1.0 - is_terminal.float()",
        "continues[:, 0] = 1.0",
    ),
    Mutant(
        "normaliser updated twice",
        "actor_critic.py",
        "    scale = normalizer(returns)",
        "    normalizer(returns)\n    scale = normalizer(returns)",
    ),
    Mutant(
        "bootstrap from another dream",
        "agent.py",
        "returns[:, 0].unflatten(0, (-1, K))",
        "returns[:, 0].unflatten(0, (K, -1)).t()",
    ),
    Mutant(
        "slow critic before the optimiser",
        "agent.py",
        "self.optimizer.step()\n        self.critic.update_slow()",
        "self.critic.update_slow()\n        self.optimizer.step()",
    ),
    Mutant("slow critic stands still", "agent.py", "        self.critic.update_slow()\n", ""),
    Mutant("breaks of replay ignored", "actor_critic.py", "lambda_, last=is_last)", "lambda_)"),
    Mutant("time limit counts as death", "envs.py", "is_terminal=terminated)", "is_terminal=terminated or truncated)"),
    Mutant(
        "fractions of updates lost",
        "replay.py",
        "self.previous += due / self.per_step if due else 0.0",
        "self.previous = float(steps)",
    ),
    Mutant(
        "evaluation samples",
        "evaluate.py",
        "agent.act(record, state, greedy=greedy, generator=generator)",
        "agent.act(record, state, generator=generator)",
        (*WIRING, "-k", "evaluation"),
    ),
    Mutant(
        "evaluation draws from the agent",
        "evaluate.py",
        "greedy=greedy, generator=generator)",
        "greedy=greedy)",
        (*WIRING, "-k", "evaluation"),
    ),
    Mutant(
        "KL sides swapped",
        "world_model.py",
        '{"dyn": dyn.clamp(min=free_nats), "rep": rep.clamp(min=free_nats)}',
        '{"dyn": rep.clamp(min=free_nats), "rep": dyn.clamp(min=free_nats)}',
        ("tests/test_gradients.py", "-k", "reaches"),
    ),
    Mutant(
        "entropy punished",
        "actor_critic.py",
        "log_probs * advantage + entropy_coef * entropies",
        "log_probs * advantage - entropy_coef * entropies",
        ("tests/test_golden.py", "-k", "imag_loss"),
    ),
    Mutant(
        "average kept and never given",
        "trainer.py",
        "torch._foreach_copy_(list(self.agent.parameters()), self.average)",
        "torch._foreach_copy_(self.average, list(self.agent.parameters()))",
        ("tests/test_train.py", "-k", "average_of_its_last and 0.25"),
    ),
    Mutant(
        "looking: previous action not shifted",
        "dreams.py",
        'previous = previous_actions(seen["action"], seen["is_first"])',
        'previous = seen["action"]',
        (*WIRING, "-k", "beside_reality"),
    ),
    Mutant(
        "losses lose their scales",
        "agent.py",
        "self.parts.total_loss(losses, self.scales)",
        "self.parts.total_loss(losses, {})",
        (*WIRING, "-k", "by_its_scale"),
    ),
    Mutant(
        "every training has the same worlds",
        "trainer.py",
        "envs.VectorEnv(env, config.num_envs, seed)",
        "envs.VectorEnv(env, config.num_envs)",
        ("tests/test_randomness.py", "-k", "seed_of_a_training"),
    ),
    Mutant(
        "dreams draw from the global generator",
        "agent.py",
        "config.imagination_horizon, self.generator",
        "config.imagination_horizon, None",
        ("tests/test_randomness.py", "-k", "learners"),
    ),
    Mutant(
        "nets are made from the global generator",
        "agent.py",
        "with device, hardware.DrawingFrom(self.generator):",
        "with device:",
        ("tests/test_randomness.py", "-k", "learners"),
    ),
    # In the accelerated path alone.
    Mutant(
        "fast: beginnings leave the action",
        "fast.py",
        "embed_actions(prev_actions * keep)",
        "embed_actions(prev_actions)",
        LEARNS_THE_SAME,
    ),
    Mutant(
        "fast: the start's own end ignored",
        "fast.py",
        "continues[:, 0] = 1.0 - is_terminal.float()",
        "continues[:, 0] = 1.0",
        (*WIRING, "-k", "fast"),
    ),
    Mutant(
        "fast: losses lose their scales",
        "fast.py",
        "world_model.total_loss({**modelled, **replayed}, self.scales).backward()",
        "world_model.total_loss({**modelled, **replayed}, {}).backward()",
        LEARNS_THE_SAME,
    ),
)


def copy_of_the_package(folder: Path) -> None:
    """What the tests need: the package, the tests with the golden files, the shipped data."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("dreamer_helpers", "tests", "data"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)


def run_tests(folder: str, arguments: tuple[str, ...]) -> tuple[int, str, float]:
    """pytest in a folder, on the package that is there: its exit code, what it printed, CPU seconds.

    It runs in a process of its own that has not yet loaded the package.
    """
    import pytest

    os.chdir(folder)
    sys.path[:0] = [folder, f"{folder}/tests"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the one for notebooks takes longer to load than most tests run
    begun, printed = time.process_time(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *arguments])
        import dreamer_helpers
    if Path(dreamer_helpers.__file__).parent.parent != Path(folder):
        raise RuntimeError(f"the tests ran on {dreamer_helpers.__file__}, not on the copy in {folder}")
    return int(code), printed.getvalue(), time.process_time() - begun


def try_mutant(mutant: Mutant | None, tests: tuple[str, ...]) -> tuple[str, bool, str, float]:
    """Plant a mutant, or nothing, and test: a line for the report, whether all is well, what was printed, seconds."""
    name = mutant.name if mutant else f"as it is: {' '.join(tests)}"
    with tempfile.TemporaryDirectory() as folder:
        copy_of_the_package(Path(folder))
        if mutant:
            path = Path(folder, "dreamer_helpers", mutant.file)
            text = path.read_text()
            if text.count(mutant.old) != 1:
                return f"lost      {name}: {mutant.file} has its text {text.count(mutant.old)} times", False, "", 0.0
            path.write_text(text.replace(mutant.old, mutant.new))
        code, printed, seconds = run_tests(os.path.realpath(folder), tests)
    if mutant is None:
        return f"{'passed' if code == 0 else 'FAILED':<10}{name}", code == 0, printed, seconds
    # 1 says that tests failed; anything else that they could not even run
    seen = re.search(r"^(?:FAILED|ERROR) \S+::(\w+)", printed, re.MULTILINE)
    line = f"caught    {name}: {seen[1]}" if code == 1 and seen else f"SURVIVED  {name}"
    return line, code == 1, printed, seconds


def main(names: list[str]) -> int:
    """Report on all mutants, or on those whose names begin so; 0 if every one is caught."""
    import gymnasium  # noqa: F401  loaded once, for all processes
    import torch

    torch.set_num_threads(1)
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name.startswith(tuple(names))]
    plain = sorted({mutant.tests for mutant in chosen}, key=len)
    jobs = [(None, tests) for tests in plain] + [(mutant, mutant.tests) for mutant in chosen]
    begun, spent, well = time.perf_counter(), 0.0, True
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for result in [pool.apply_async(try_mutant, job) for job in jobs]:
            line, good, printed, seconds = result.get()
            print(f"{line}  ({seconds:.1f} s)", *([] if good else [printed]), sep="\n" if not good else "", flush=True)
            spent, well = spent + seconds, well and good
    print(f"{len(chosen)} mutants, {time.perf_counter() - begun:.0f} s, {spent:.0f} s of CPU time")
    return 0 if well and chosen else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
