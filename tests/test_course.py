"""What the notebooks use beside the algorithm: claims, budgets, dreams, pictures, widgets."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from PIL import Image

from dreamer_helpers import course, dreams, plots, video
from dreamer_helpers.errors import UserError
from dreamer_helpers.train import DreamerV3, Progress, evaluate, train
from dreamer_helpers.widgets import DreamPlayer, Scrubber, TrainingDashboard
from dreamer_helpers.widgets.base import VIEW
from dreamer_helpers.worlds import TMaze
from helpers import TINY, slow

MAZE = "dreamer_helpers/TMaze-v0"


@pytest.fixture(scope="module")
def agent() -> DreamerV3:
    return train(TINY, MAZE, 100, progress_bar=False).agent


@pytest.fixture(scope="module")
def episode(agent: DreamerV3) -> dreams.Episode:
    return dreams.record_episode(agent, MAZE, seed=1, greedy=False, max_steps=6)


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


# -------------------------------------------------------------------------------------- claims and budgets


def test_claims_print_fixed_lines_and_raise(capsys: pytest.CaptureFixture[str]) -> None:
    course.claims({"one is one": 1 == 1, "tensors count": torch.tensor(True)})
    assert capsys.readouterr().out == "yes  one is one\nyes  tensors count\n"
    with pytest.raises(course.ClaimError, match="1 of 2 claims do not hold: pigs fly"):
        course.claims({"one is one": True, "pigs fly": False})
    assert "NO   pigs fly" in capsys.readouterr().out


def test_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_BUDGET", raising=False)
    assert course.budget(full=10, ci=1) == 10
    monkeypatch.setenv("COURSE_BUDGET", "ci")
    assert course.budget(full=10, ci=1) == 1
    monkeypatch.setenv("COURSE_BUDGET", "small")
    with pytest.raises(UserError, match="must be full or ci, not 'small'"):
        course.budget(full=10, ci=1)


# ------------------------------------------------------------------------------------------------- dreams


def test_an_episode_is_recorded_whole(agent: DreamerV3, episode: dreams.Episode) -> None:
    assert episode.is_first.tolist() == [True] + [False] * (len(episode) - 1)
    assert episode.obs["image"].shape == (len(episode), 16, 16, 3)
    assert episode.action.shape == (len(episode), 4)
    again = dreams.record_episode(agent, MAZE, seed=1, greedy=False, max_steps=6)
    assert np.array_equal(again.action, episode.action)


def test_looking_in_leaves_the_training_alone(agent: DreamerV3, episode: dreams.Episode) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dreams.record_episode(agent, MAZE, seed=2, max_steps=4)
    dreams.open_loop(agent, episode, 2)
    dreams.dream_on(agent, episode, 1, 3)
    assert torch.equal(torch.rand(3), expected)


def test_an_open_loop_dream_sees_its_context_and_nothing_after(agent: DreamerV3, episode: dreams.Episode) -> None:
    """Changing what is seen in the context changes the dream, changing what comes after does not."""
    dream = dreams.open_loop(agent, episode, 2)
    assert dream.dreamed.shape == dream.real.shape == (len(episode), 16, 16, 3)
    assert dream.is_image
    assert dream.reward.shape == dream.goes_on.shape == (len(episode),)
    for changed, same in ((1, False), (3, True)):
        obs = {"image": episode.obs["image"].copy()}
        obs["image"][changed] = 255 - obs["image"][changed]
        other = dreams.Episode(obs, episode.action, episode.reward, episode.is_first, episode.is_terminal)
        assert np.array_equal(dreams.open_loop(agent, other, 2).dreamed, dream.dreamed) == same


def test_an_open_loop_dream_follows_the_actions(agent: DreamerV3, episode: dreams.Episode) -> None:
    """The action at step 2 changes what is dreamed from step 3 on, and nothing before."""
    actions = episode.action.copy()
    actions[2] = np.roll(actions[2], 1)
    other = dreams.Episode(episode.obs, actions, episode.reward, episode.is_first, episode.is_terminal)
    one, two = dreams.open_loop(agent, episode, 2).dreamed, dreams.open_loop(agent, other, 2).dreamed
    assert np.array_equal(one[:3], two[:3])
    assert not np.array_equal(one[3], two[3])


@pytest.mark.parametrize("context", [0, 99])
def test_a_context_that_leaves_nothing_to_dream(agent: DreamerV3, episode: dreams.Episode, context: int) -> None:
    with pytest.raises(UserError, match="context must be from 1 to"):
        dreams.open_loop(agent, episode, context)


def test_dreaming_on(agent: DreamerV3, episode: dreams.Episode) -> None:
    night = dreams.dream_on(agent, episode, at=1, horizon=4)
    assert night.dreamed.shape == (5, 16, 16, 3)
    assert len(night.real) == 2


# ------------------------------------------------------------------------------------------------ pictures


def test_pictures_carry_words(agent: DreamerV3, episode: dreams.Episode) -> None:
    shown = plots.dream_picture(dreams.open_loop(agent, episode, 1), "what is to be seen")
    assert shown._repr_mimebundle_()["text/plain"] == "what is to be seen"
    alt, kind, data = picture(shown)
    assert (alt, kind) == ("what is to be seen", "image/png")
    width, height = size(data)
    assert width > height > 100


def test_vectors_are_drawn_as_lines() -> None:
    lines = dreams.OpenLoop(np.random.rand(8, 4), np.random.rand(8, 4), np.zeros(8), np.ones(8), 3)
    assert not lines.is_image
    figure = plots.training_figure([(10, 1.0, 5)], [{"steps": 10, "loss/dyn": 1.0, "loss/vector": 0.1}], 100, lines)
    assert len(plots.render(figure)) > 5000


def test_a_film_is_a_gif_with_words() -> None:
    frames = np.random.randint(0, 255, (20, 8, 8, 3), np.uint8)
    film = video.Film(frames, 'a "film" & more', scale=3)
    image = Image.open(io.BytesIO(film.data))
    assert (image.format, image.n_frames, image.size, image.info["loop"]) == ("GIF", 20, (24, 24), 0)
    label = "Animated GIF: 20 frames in 9 seconds, again and again."
    assert picture(film) == (f'a "film" & more ({label})', "image/gif", film.data)
    assert f"<figcaption>{label}</figcaption>" in film._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    ("count", "fps", "wanted"),
    [
        (20, 2, [1000, 500, 500, 2000]), (20, 50, [1000, 250, 250, 2000]), (5, 4, [1000, 800, 800, 2000]),
        (2, 3, [2000, 2000]), (1, 3, [4000]),
    ],
    ids=["as wished", "too fast", "too short", "two", "one"],
)  # fmt: skip
def test_a_film_is_slow_enough_to_be_followed(count: int, fps: float, wanted: list[int]) -> None:
    """Milliseconds of the first two frames and the last two."""
    image = Image.open(io.BytesIO(video.Film(np.random.randint(0, 255, (count, 8, 8, 3), np.uint8), "", fps).data))
    shown = []
    for frame in range(count):
        image.seek(frame)
        shown.append(image.info.get("duration", 4000))
    assert shown[:2] + shown[2:][-2:] == wanted


def picture(shown: video.Shown) -> tuple[str, str, bytes]:
    """What a browser gets: alternative text, kind and content of the one picture."""
    page = shown._repr_mimebundle_()["text/html"]
    found = re.fullmatch('<figure style="margin: 0"><img alt="([^"]*)" src="data:(.*);base64,(.*)">.*</figure>', page)
    assert found is not None
    return html.unescape(found[1]), found[2], base64.b64decode(found[3])


@pytest.mark.parametrize(
    ("frames", "settings", "words"),
    [
        (np.zeros((3, 4, 4, 3), np.uint8), {"fps": 0}, "fps must be more than 0, not 0"),
        (np.zeros((0, 4, 4, 3), np.uint8), {}, "no frame to show"),
        (np.random.randint(0, 255, (40, 32, 32, 3), np.uint8), {"scale": 8}, "at most 300,000; take fewer frames"),
    ],
    ids=["still", "empty", "large"],
)
def test_what_is_no_film(frames: np.ndarray, settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        video.Film(frames, "a film", **settings)


def test_frames_become_bytes() -> None:
    assert video.to_uint8(np.array([[[[-1.0], [0.5]], [[1.0], [2.0]]]])).tolist() == [
        [[[0] * 3, [128] * 3], [[255] * 3, [255] * 3]]
    ]
    both = video.side_by_side([np.zeros((3, 4, 4, 3), np.uint8), np.zeros((2, 4, 5, 3), np.uint8)])
    assert both.shape == (2, 4, 4 + video.GAP + 5, 3)


# ------------------------------------------------------------------------------------------------- widgets


def test_scrubber_shows_the_frame_of_its_slider() -> None:
    frames = np.stack([np.full((4, 4, 3), 40 * i, np.uint8) for i in range(5)])
    player = Scrubber({"real": frames, "dreamed": frames[:4]}, captions=list("abcd"), scale=2, alt="five greys")
    assert player.slider.max == player.play.max == 3
    player.slider.value = 2
    assert player.caption.value == "c"
    shown = Image.open(io.BytesIO(player.picture.value))
    assert shown.getpixel((0, 0)) == (80, 80, 80)
    assert player.picture.tooltip == "five greys Step 2: c"
    assert player.bundle()[VIEW]["model_id"] == player.model_id


def test_a_still_of_a_scrubber_shows_its_moments() -> None:
    frames = np.stack([np.full((4, 4, 3), 20 * i, np.uint8) for i in range(11)])
    for chosen, moments in ((None, [0, 2, 4, 6, 8, 10]), ([3, 7], [3, 7])):
        shown = Scrubber(frames, captions=["start"], scale=2, alt="greys", moments=chosen).snapshot()
        still = np.asarray(Image.open(io.BytesIO(shown.data)))[0]
        assert still[:: 4 + video.GAP, 0].tolist() == [20 * i for i in moments]
        steps = "; ".join("0: start" if step == 0 else str(step) for step in moments)
        assert shown.alt == f"greys From left to right the steps {steps}."
        assert shown.caption.startswith("A still; in a running notebook it moves.")
    with pytest.raises(UserError, match=r"moments \[11\] must be steps from 0 to 10"):
        Scrubber(frames, moments=[11])


@pytest.mark.parametrize("frames", [np.zeros((0, 4, 4, 3), np.uint8), {}], ids=["empty", "none"])
def test_scrubber_without_frames(frames: object) -> None:
    with pytest.raises(UserError, match="no frame to show"):
        Scrubber(frames)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[TrainingDashboard]:
    board = TrainingDashboard(TINY, MAZE, 400, logdir=tmp_path / "run", every=50, name="tiny agent")
    yield board
    board.stop()


@pytest.mark.slow
def test_dashboard_trains_and_keeps_the_agent(board: TrainingDashboard, tmp_path: Path) -> None:
    empty = board.picture.value
    progress = board.wait()
    assert progress.steps == board.bar.value > 380
    assert board.picture.value != empty
    assert "done" in board.text.value
    assert board.button.disabled
    assert "tiny agent after" in board.summary().alt
    assert board.dream is not None
    again = DreamerV3.from_checkpoint(tmp_path / "run" / "agent.safetensors")
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), progress.agent.parameters(), strict=True))
    assert board.start().wait() is progress  # nothing starts a second time


@pytest.mark.slow
def test_a_training_shorter_than_the_interval_is_shown_too(tmp_path: Path) -> None:
    board = TrainingDashboard(TINY, MAZE, 60, every=1000)
    assert board.wait().steps == board.bar.value > 50


@pytest.mark.slow
def test_watching_changes_nothing_that_is_learned(board: TrainingDashboard) -> None:
    plain = train(TINY, MAZE, 400, progress_bar=False).agent
    watched = board.wait().agent
    assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), watched.parameters(), strict=True))


def test_the_stop_button_ends_the_training_and_keeps_the_agent(tmp_path: Path) -> None:
    board = TrainingDashboard(TINY, MAZE, 100_000, logdir=tmp_path, every=50)
    board.start()
    deadline = time.monotonic() + 60
    while board.progress is None and time.monotonic() < deadline:
        time.sleep(0.05)
    board.button.click()
    assert board.wait().steps < 100_000
    assert "stopped" in board.text.value
    assert (tmp_path / "agent.safetensors").exists()


@pytest.mark.parametrize("begun", [False, True], ids=["before the first step", "between two looks"])
def test_the_stop_button_acts_at_once(begun: bool) -> None:
    """Not at the next look, which would be thousands of steps later."""
    board = TrainingDashboard(TINY, MAZE, 3000, every=2000)
    if not begun:
        board.button.click()
    board.start()
    deadline = time.monotonic() + 60
    while begun and (board.progress is None or not board.progress.steps) and time.monotonic() < deadline:
        time.sleep(0.01)
    board.button.click()
    before = board.progress.steps if board.progress is not None else 0
    assert board.wait().steps <= before + 2 * TINY.num_envs
    assert bool(board.progress.steps) == begun
    assert "stopped" in board.text.value


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "00:00"), (59.4, "00:59"), (61, "01:01"), (3599, "59:59"), (3600, "1:00:00"), (9 * 3600, "9:00:00"),
     (30 * 3600 + 62, "30:01:02")],
)  # fmt: skip
def test_time_left_has_its_hours(seconds: float, words: str) -> None:
    board = TrainingDashboard(TINY, MAZE, 200)
    assert board._left(Progress(None, None, 200, steps=100, wall_s=seconds)) == words


class Watched(TMaze):
    """A maze that counts how often it is begun and stepped, and by which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def reset(self, **arguments: Any) -> Any:
        self.calls.append("reset")
        return super().reset(**arguments)

    def step(self, action: Any) -> Any:
        self.calls.append("step")
        return super().step(action)


ALONE = dataclasses.replace(TINY, num_envs=1)


@pytest.mark.slow
@pytest.mark.parametrize("every", [20, 1000], ids=["seen often", "seen at the end"])
def test_who_watches_never_plays_in_the_world_of_the_training(every: int) -> None:
    """Resets and steps of one object are those of the same training unwatched; the reason stands on the board."""
    plain, world = Watched(), Watched()
    train(ALONE, plain, 60, progress_bar=False)
    board = TrainingDashboard(ALONE, world, 60, every=every)
    assert board.wait().steps == 60
    assert world.calls == plain.calls
    assert board.dream is None
    assert "one object" in board.text.value and "a function or an id" in board.text.value
    assert "done" in board.text.value


@pytest.mark.slow
def test_who_watches_plays_in_a_world_of_its_own() -> None:
    made: list[Watched] = []

    def make() -> Watched:
        made.append(Watched())
        return made[-1]

    plain = Watched()
    train(ALONE, plain, 60, progress_bar=False)
    board = TrainingDashboard(ALONE, make, 60, every=20)
    board.wait()
    assert made[0].calls == plain.calls
    assert len(made) == 1 + 3 + 1  # three looks on the way, one at the end
    assert board.dream is not None


@pytest.mark.parametrize("wrapped", [False, slow(True)])
@pytest.mark.parametrize("shared", [False, True], ids=["an object", "a function that gives one object"])
def test_nobody_looks_into_the_world_of_a_training(shared: bool, wrapped: bool) -> None:
    """Whatever an object is handed to while a training is in it refuses, and leaves it as it was."""
    world = Watched()
    again = gymnasium.Wrapper(world) if wrapped else world
    env = (lambda: again) if shared else again
    agent, refusals = train(ALONE, MAZE, 20, progress_bar=False).agent, []
    looks = (
        lambda: dreams.record_episode(agent, env), lambda: dreams.random_episode(env),
        lambda: evaluate(agent, env, 1), lambda: DreamPlayer(agent, env, buttons={"left": 0}),
    )  # fmt: skip

    def look(progress: Progress) -> None:
        before = list(world.calls)
        for each in looks:
            with pytest.raises(UserError, match=r"one object, and something plays in it.*a function") as caught:
                each()
            refusals.append(str(caught.value))
        assert world.calls == before

    train(ALONE, world, 60, log_every=30, callback=look, progress_bar=False)
    assert len(refusals) == 2 * len(looks)
    dreams.record_episode(agent, env)  # when the training is over it is anybody's


@pytest.mark.slow
def test_a_training_that_ends_in_an_error_lets_go_of_its_world() -> None:
    world = Watched()

    def fails(progress: Progress) -> None:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            train(ALONE, world, 60, log_every=30, callback=fails, progress_bar=False)
    assert train(ALONE, world, 60, progress_bar=False).steps == 60


def test_copies_must_be_copies() -> None:
    world = Watched()
    with pytest.raises(UserError, match="one object"):
        train(TINY, lambda: world, 60, progress_bar=False)


def test_what_fails_in_the_thread_is_raised_in_the_notebook(tmp_path: Path) -> None:
    board = TrainingDashboard(TINY, "CartPole-v9", 400)
    with pytest.raises(UserError, match="CartPole-v9"):
        board.wait()
    assert board.text.value.startswith("failed: ")


def test_an_interrupt_stops_the_training_and_keeps_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = TrainingDashboard(TINY, MAZE, 100_000, logdir=tmp_path, every=50).start()
    join, calls = board._thread.join, []

    def interrupted(timeout: float | None = None) -> None:
        calls.append(timeout)
        if len(calls) == 1:
            raise KeyboardInterrupt
        join(timeout)

    monkeypatch.setattr(board._thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        board.wait()
    assert (tmp_path / "agent.safetensors").exists()
    assert board.progress is not None
    assert board.progress.steps < 100_000


def test_the_maze_shows_the_prize_at_the_end_only() -> None:
    for seed in range(4):
        maze = TMaze()
        first, _ = maze.reset(seed=seed)
        frames = [first] + [maze.step(action)[0] for action in (1, 1, 1, 1, 0)]
        coloured = [int((np.ptp(frame.astype(int), -1) > 60).sum()) for frame in frames]
        assert coloured == [8, 0, 0, 0, 0, 4]
