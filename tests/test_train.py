"""The agent as a whole: presets learn, checkpoints come back, mistakes are told in one line."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn.utils import parameters_to_vector

from dreamer_helpers import command_line, config, train, trainer
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.config import Config, preset
from dreamer_helpers.errors import UserError
from dreamer_helpers.evaluate import evaluate
from helpers import TINY, make_batch

VECTOR, PIXELS = spaces.Box(-1, 1, (3,)), spaces.Box(0, 255, (64, 64, 3), "uint8")


TWO = spaces.Discrete(2)


def tiny_agent(action_space: spaces.Space = TWO, **settings: Any) -> DreamerV3:
    return DreamerV3(dataclasses.replace(TINY, **settings), VECTOR, action_space)


# ------------------------------------------------------------------------------------------------- presets


@pytest.mark.slow
@pytest.mark.parametrize("observation", [VECTOR, PIXELS], ids=["vector", "pixels"])
@pytest.mark.parametrize(
    ("name", "actions"),
    [("card", spaces.Box(-1, 1, (2,))), ("v2023", spaces.Box(-1, 1, (2,))), ("v2023", spaces.Discrete(3)),
     ("default", spaces.Discrete(3)), ("cpu", spaces.Box(-1, 1, (2,)))],
)  # fmt: skip
def test_preset_takes_twenty_steps(name: str, actions: spaces.Space, observation: spaces.Space) -> None:
    """Every loss stays finite, and that of the world model falls, on one batch. Sizes are cut, the choices are not."""
    cut = dict(rnn_hidden_dim=64, hidden_dim=64, cnn_depth=4, batch_size=4, seq_len=8, num_categoricals=8, warmup=0)
    settings = preset(name, learning_rate=max(1e-3, preset(name).learning_rate), num_categories=8, **cut)
    agent = DreamerV3(settings, observation, actions)
    batch = make_batch(agent.config, agent.observation_space, actions)
    if "image" in batch:  # one colour a frame: noise cannot be learned
        batch["image"] = batch["image"][..., :1, :1, :].expand_as(batch["image"]).contiguous()
    rows = [agent.train_step(batch)[1] for _ in range(20)]
    assert all(torch.isfinite(value) for row in rows for value in row.values())

    def model_loss(row: dict) -> float:
        return sum(v.item() for k, v in row.items() if k in ("loss/image", "loss/vector", "loss/reward", "loss/dyn"))

    assert model_loss(rows[-1]) < 0.9 * model_loss(rows[0])


@pytest.mark.parametrize(
    ("size", "pixels", "vector"),
    [("1m", 0.69e6, 0.64e6), ("12m", 10.5e6, 9.7e6), ("25m", 23.5e6, 21.8e6), ("50m", 41.7e6, 38.6e6)],
)
def test_model_sizes_have_the_official_number_of_parameters(size: str, pixels: float, vector: float) -> None:
    for observation, actions, wanted in (
        (PIXELS, spaces.Discrete(18), pixels), (spaces.Box(-1, 1, (24,)), spaces.Box(-1, 1, (6,)), vector),
    ):  # fmt: skip
        agent = DreamerV3(preset("default", size), observation, actions, device="meta")
        count = sum(p.numel() for p in agent.parameters() if p.requires_grad)
        assert abs(count / wanted - 1) < 0.03, (size, count)


def test_every_setting_is_documented() -> None:
    for entry in dataclasses.fields(Config):
        assert all(entry.metadata[key] for key in ("meaning", "unit", "source")), entry.name
    assert len(Config().describe().splitlines()) == len(dataclasses.fields(Config))


@pytest.mark.parametrize("name", config.PRESETS)
def test_presets_survive_json(name: str) -> None:
    settings = preset(name)
    assert Config.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: preset("cpuu"), "no preset 'cpuu' .did you mean 'cpu'"),
        (lambda: preset("cpu", "7m"), "no model size '7m'"),
        (lambda: preset("cpu", learning_rte=1), "did you mean 'learning_rate'"),
        (lambda: preset("cpu", blocks=3), "multiple of blocks"),
        (lambda: preset("cpu", batch_size=0), "batch_size must be an int, at least 1, not 0"),
        (lambda: preset("cpu", batch_size=float("nan")), "batch_size must be an int, at least 1, not nan"),
        (lambda: preset("cpu", convolution="round"), "'pooled', 'strided'"),
        (lambda: preset("cpu", replay_capacity=10), "never holds a batch"),
        (lambda: tiny_agent(variants=("no_unimx",)), "did you mean 'no_unimix'"),
        (lambda: config.parse_override("gama=1"), "did you mean 'gamma'"),
        (lambda: config.parse_override("gamma=much"), "'much' is not a float"),
        (lambda: config.parse_override("return_floor_relative=perhaps"), "'perhaps' is not a bool"),
    ],
)
def test_wrong_settings_are_one_line(call: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()


def test_settings_on_the_command_line_have_the_type_of_the_field() -> None:
    wanted = {"gamma=0.9": 0.9, "blocks=4": 4, "return_floor_relative=True": True, "cnn_mults=1,2": (1, 2)}
    assert {text: config.parse_override(text)[1] for text in wanted} == wanted


@pytest.mark.parametrize("unit", [0.001, 1.0, 1000.0])
def test_the_unit_of_rewards_scales_the_floor_of_the_return_range(unit: float) -> None:
    agent = tiny_agent(return_floor_relative=True)
    batch = make_batch(agent.config, agent.observation_space, TWO)
    batch["reward"] = torch.zeros_like(batch["reward"])
    agent.train_step(batch)
    assert agent.normalizer.floor == 1  # nothing was paid so far
    batch["reward"][0, 2] = -unit
    agent.train_step(batch)
    assert agent.normalizer.floor == pytest.approx(unit)
    batch["reward"][0, 2] = 0.1 * unit  # smaller ones change nothing
    agent.train_step(batch)
    assert agent.normalizer.floor == pytest.approx(unit)
    again = tiny_agent(return_floor_relative=True)
    again.load_state_dict(agent.state_dict())
    again.train_step(batch)
    assert again.normalizer.floor == pytest.approx(unit)  # remembered in a file


@pytest.mark.slow
def test_a_relative_floor_changes_nothing_where_the_largest_reward_is_one() -> None:
    """So what was measured with such rewards before the setting existed stands."""
    ends = []
    for relative in (False, True):
        config = dataclasses.replace(TINY, return_floor_relative=relative)
        progress = train.train(config, "CartPole-v1", 200, seed=0, progress_bar=False)
        ends.append(torch.cat([p.flatten() for p in progress.agent.parameters()]))
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", ["default", "card", "v2023"])
def test_a_step_in_bfloat16_keeps_parameters_states_and_losses_in_float32(name: str) -> None:
    settings = dataclasses.replace(TINY, variants=preset(name).variants)
    agent = DreamerV3(settings, spaces.Dict({"image": PIXELS, "vector": VECTOR}), TWO, precision="bfloat16")
    full = DreamerV3(settings, spaces.Dict({"image": PIXELS, "vector": VECTOR}), TWO, precision="float32")
    full.load_state_dict(agent.state_dict())
    batch, losses = make_batch(agent.config, agent.observation_space, TWO), []
    for each in (agent, full):
        each.generator.manual_seed(1)
        states, metrics = each.train_step(batch)
        assert states.deter.dtype == torch.float32
        assert {value.dtype for value in metrics.values()} == {torch.float32}
        assert all(p.dtype == p.grad.dtype == torch.float32 for p in each.parameters() if p.requires_grad)
        losses.append(metrics["loss/image"])
    assert losses[0] != losses[1]  # it was not the same arithmetic,
    torch.testing.assert_close(*losses, rtol=0.02, atol=0)  # but nearly


# ------------------------------------------------------------------------------------------------ training


@pytest.mark.slow
def test_training_counts_steps_and_updates(tmp_path: Path) -> None:
    seen = []
    progress = train.train(
        TINY, "CartPole-v1", 400, logdir=tmp_path, log_every=100, callback=lambda p: seen.append(p.steps),
        progress_bar=False,
    )  # fmt: skip
    assert 400 - TINY.num_envs < progress.steps <= 400
    assert abs(progress.updates - progress.steps * TINY.train_ratio / 16) <= 6
    assert len(seen) == 4 - (progress.steps < 400)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows == progress.log
    assert rows[-1]["steps"] == progress.steps
    assert len({row["steps"] for row in rows}) == len(rows)
    assert rows[-1]["return"] == np.mean([value for _, value, _ in progress.episodes[-10:]])
    assert all(length >= 8 for _, _, length in progress.episodes)
    assert all(value == length for _, value, length in progress.episodes)  # CartPole pays 1 for each step
    agent = DreamerV3.from_checkpoint(tmp_path / "agent.safetensors")
    torch.testing.assert_close(agent.state_dict(), progress.agent.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_trained_agent_has_the_average_of_its_last_weights(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, update = [], trainer.Trainer.update

    def watched(training: trainer.Trainer) -> dict[str, torch.Tensor]:
        metrics = update(training)
        history.append(parameters_to_vector(training.agent.parameters()).detach())
        return metrics

    monkeypatch.setattr(trainer.Trainer, "update", watched)
    settings = dataclasses.replace(TINY, average_share=share)
    progress = train.train(settings, "CartPole-v1", 300, logdir=tmp_path, progress_bar=False)
    average = history[0]
    for number, weights in enumerate(history):
        average = average + (weights - average) / (1 + share * number)
    assert len(history) > 20
    torch.testing.assert_close(parameters_to_vector(progress.agent.parameters()).detach(), average)
    goes_on = DreamerV3.from_checkpoint(tmp_path / "training.safetensors")  # from where it was, not from the average
    assert torch.equal(parameters_to_vector(goes_on.parameters()), history[-1])
    assert torch.allclose(average, history[-1]) == (share == 0)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run() -> None:
    runs = [train.train(TINY, "CartPole-v1", 300, seed=seed, progress_bar=False) for seed in (5, 5, 6)]
    logs = [[{k: v for k, v in row.items() if not k.endswith("_s")} for row in run.log] for run in runs]
    assert logs[0] == logs[1] != logs[2]


def test_evaluation_plays_the_episodes_asked_and_leaves_the_random_numbers_alone() -> None:
    agent = DreamerV3(TINY, spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
    before = agent.generator.get_state()
    first, again = (evaluate(agent, "CartPole-v1", 30) for _ in range(2))
    assert torch.equal(before, agent.generator.get_state())
    assert len(first) == 30
    assert first == again
    assert min(first) >= 8
    assert evaluate(agent, "CartPole-v1", 30, greedy=False) != first
    with pytest.raises(UserError, match="positive"):
        evaluate(agent, "CartPole-v1", 0)


def test_an_action_is_the_callers_to_change() -> None:
    agent = tiny_agent()
    action, state = agent.act({"vector": np.zeros((2, 3), np.float32), "is_first": np.ones(2, bool)}, None)
    action[:] = 7
    assert state.action.max() == 1


@pytest.mark.parametrize("name", ["default", "card", "v2023"])
def test_every_norm_gets_the_epsilon_of_the_configuration(name: str) -> None:
    small = dict(rnn_hidden_dim=16, hidden_dim=8, num_categoricals=2, num_categories=4)
    agent = DreamerV3(preset(name, norm_eps=0.01, **small), VECTOR, TWO)
    assert {module.eps for module in agent.modules() if hasattr(module, "eps")} == {0.01}


def test_acting_resets_where_an_episode_begins() -> None:
    """The state before a first step does not matter."""
    agent = tiny_agent(unimix=0.0)
    obs = {"vector": np.ones((2, 3), np.float32), "is_first": np.array([True, True])}
    _, state = agent.act({**obs, "vector": -obs["vector"]}, None)
    logits = []
    for carried in (None, state):
        action, after = agent.act(obs, carried, generator=torch.Generator().manual_seed(1))
        logits.append(after.latent.deter)
        assert action.shape == (2, 2)
    torch.testing.assert_close(logits[0], logits[1])
    generator = torch.Generator().manual_seed(1)
    _, after = agent.act({**obs, "is_first": np.array([True, False])}, state, generator=generator)
    torch.testing.assert_close(after.latent.deter[0], logits[0][0])
    assert not torch.allclose(after.latent.deter[1], logits[0][1])


# --------------------------------------------------------------------------------------------- checkpoints


@pytest.mark.parametrize("variants", [(), ("three_adams",)], ids=["laprop", "adam"])
def test_a_loaded_agent_goes_on_exactly_as_the_saved_one(tmp_path: Path, variants: tuple[str, ...]) -> None:
    one, two = tiny_agent(variants=variants), tiny_agent(variants=variants)
    batch = make_batch(one.config, one.observation_space, spaces.Discrete(2))
    for _ in range(3):
        one.train_step(batch)
    one.save(tmp_path / "agent")
    two.load(tmp_path / "agent")
    for agent in (one, two):
        agent.train_step(batch)
    torch.testing.assert_close(one.state_dict(), two.state_dict(), rtol=0, atol=0)
    assert list(tmp_path.iterdir()) == [tmp_path / "agent"]


def rewrite(path: Path, **header: Any) -> None:
    """Change entries of a checkpoint's header."""
    with safe_open(path, "pt") as file:
        old = json.loads(file.metadata()["header"])
    save_file(load_file(path), path, {"header": json.dumps({**old, **header})})


def test_damaged_and_foreign_checkpoints_are_told_apart(tmp_path: Path) -> None:
    path, agent = tmp_path / "agent", tiny_agent()
    agent.save(path)
    content = path.read_bytes()
    before = {key: value.clone() for key, value in agent.state_dict().items()}

    def refused(words: str, target: DreamerV3 = agent) -> None:
        with pytest.raises(UserError, match=words) as caught:
            target.load(path)
        assert "\n" not in str(caught.value)

    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refused("damaged or no checkpoint")
    path.write_bytes(b"not one of ours" * 100)
    refused("damaged or no checkpoint")
    save_file({"x": torch.ones(1)}, path)
    refused("no dreamer-helpers agent or dreamer-helpers training")
    path.unlink()
    refused("no checkpoint at")
    path.write_bytes(content)
    refused("another task", tiny_agent(spaces.Discrete(5)))
    refused("another configuration .gamma", tiny_agent(gamma=0.5))
    older = {k: v for k, v in agent.config.to_dict().items() if k != "unimix"}  # from before it was there
    rewrite(path, config=older)
    agent.load(path)
    rewrite(path, version=99)
    refused("of version 99, and this package reads version 4")
    torch.testing.assert_close(agent.state_dict(), before, rtol=0, atol=0)


def test_saving_where_one_cannot_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the checkpoint"):
        tiny_agent().save(tmp_path / "file" / "agent")
    with pytest.raises(UserError, match="cannot make the folder"):
        train.train(TINY, "CartPole-v1", 100, logdir=tmp_path / "file" / "logs", progress_bar=False)


# -------------------------------------------------------------------------------------------- wrong batches


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: {k: v for k, v in b.items() if k != "reward"}, "the batch lacks 'reward'"),
        (lambda b: {**b, "action": b["action"][..., :1]}, r"batch\['action'\] has shape \(4, 5, 1\), not \(4, 5, 2\)"),
        (lambda b: {**b, "vector": b["vector"][:, 1:]}, r"batch\['vector'\] has shape \(4, 4, 3\), not \(4, 5, 3\)"),
    ],
)
def test_a_wrong_batch_is_one_line(change: Any, words: str) -> None:
    agent = tiny_agent()
    with pytest.raises(UserError, match=words):
        agent.train_step(change(make_batch(TINY, agent.observation_space, spaces.Discrete(2))))


@pytest.mark.parametrize("steps", [0, -5, 3, 2.5, "10"])
def test_steps_are_checked(steps: Any) -> None:
    with pytest.raises(UserError, match="whole number of at least 4"):
        train.train(TINY, "CartPole-v1", steps, progress_bar=False)


# -------------------------------------------------------------------------------------------- command line


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "dreamer_helpers.train", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "CartPol-v1"], "no environment 'CartPol-v1' (did you mean 'CartPole-v1'?)"),
        (["--env", "CartPole-v1", "--preset", "cp"], "no preset 'cp' (did you mean 'cpu'?)"),
        (["--env", "CartPole-v1", "--device", "gpu"], "no device 'gpu'"),
        (["--env", "CartPole-v1", "--steps", "-3"], "must be a positive whole number, not '-3'"),
        (["--evn", "CartPole-v1"], "unrecognized arguments: --evn CartPole-v1; --help lists the options"),
        (["--env", "CartPole-v1", "--steps", "many"], "must be a positive whole number, not 'many'"),
        (["--env", "CartPole-v1", "--eval-episodes", "x"], "must be a whole number, 0 or more, not 'x'"),
        (["--env", "CartPole-v1", "--set", "gama=1"], "did you mean 'gamma'"),
        (["--env", "CartPole-v1", "--precision", "half"], "there are float32, bfloat16"),
        (["--env", "CartPole-v1", "--speed", "fst"], "no speed 'fst' (did you mean 'fast'?)"),
        (["--env", "CartPole-v1", "--report", "/dev/null/x/report.json"], "cannot make the folder /dev/null/x"),
        (["--resume", "nowhere"], "no checkpoint at nowhere/training.safetensors"),
        (["--resume", "x", "--env", "CartPole-v1"], "give either --env"),
        ([], "give either --env"),
        (["--resume", "x", "--seed", "3"], "--seed cannot be changed in a training that goes on"),
        (["--env", "CartPole-v1", "--eval-episodes", "all"], "CartPole-v1 has no numbered starts"),
        (["--env", "CartPole-v1", "--save-every", "-1"], "must be a number of seconds, 0 or more, not '-1'"),
    ],
)
def test_the_command_line_tells_mistakes_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        command_line.main(train.train, train.resume, arguments)
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert words in message
    assert message.count("\n") == 1


def test_a_resumed_training_is_not_spent_before_the_evaluation_is_known_to_be_possible(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.train(TINY, "CartPole-v1", 80, logdir=tmp_path, progress_bar=False)
    before = (tmp_path / "training.safetensors").read_bytes()
    with pytest.raises(SystemExit):
        command_line.main(
            train.train, train.resume, ["--resume", str(tmp_path), "--steps", "120", "--eval-episodes", "all"]
        )
    assert "CartPole-v1 has no numbered starts" in capsys.readouterr().err
    assert (tmp_path / "training.safetensors").read_bytes() == before


@pytest.mark.slow
def test_the_command_line_trains_and_reports(tmp_path: Path) -> None:
    report = tmp_path / "new" / "report.json"
    cut = ("rnn_hidden_dim", "blocks", "hidden_dim", "batch_size", "seq_len", "imagination_last")
    small = [f"--set={name}={getattr(TINY, name)}" for name in cut]
    result = command(
        "--env", "CartPole-v1", "--preset", "cpu", "--seed", "3", "--steps", "200", "--device", "cpu", "--logdir",
        str(tmp_path / "logs"), "--eval-episodes", "4", "--report", str(report), *small,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    values = json.loads(report.read_text())
    assert set(values) == {
        "env", "preset", "seed", "steps", "updates", "wall_s", "cpu_s", "eval_mean", "eval_min", "eval_episodes",
        "eval_sampled_mean", "config",
    }  # fmt: skip
    assert (values["env"], values["seed"], values["eval_episodes"]) == ("CartPole-v1", 3, 4)
    assert 184 <= values["steps"] <= 200
    assert 8 <= values["eval_min"] <= values["eval_mean"] <= 500
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {
        "log.jsonl",
        "agent.safetensors",
        "training.safetensors",
    }
    wrong = command("--env", "CartPole-v1", "--device", "cuda:99")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: device 'cuda:99'")
    assert wrong.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("module", ["symlog", "world_model", "actor_critic", "train"])
def test_each_of_the_four_modules_shows_that_it_works(module: str) -> None:
    line = [sys.executable, "-m", f"dreamer_helpers.{module}"]
    result = subprocess.run(line, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) >= 3
