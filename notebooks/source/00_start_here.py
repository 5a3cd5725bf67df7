# %% [markdown]
# # 00 Start here: a walk in somebody else's dream
#
# This course builds DreamerV3, an agent that learns a model of its world and then learns to act inside its own dreams.
# Before you build anything: walk into such a dream, and look for what is wrong with it.
#
# | | |
# | --- | --- |
# | You will be able to | say what a world model is and is not; find your way through a lesson; solve an exercise |
# | You need | Python; a keyboard or a mouse |
# | Reading | about 10 minutes |
# | Computing | about two minutes on two CPU cores (not measured on a Colab GPU) |
# | Exercises | 1, to see how they work |
#
# The notebooks come with their outputs stored. Clear them first, so that no answer stands below a question: in JupyterLab
# by *Edit, Clear Outputs of All Cells*, on Colab by *Edit, Clear all outputs*.

# %%
import importlib.util
import sys

if importlib.util.find_spec("dreamer_helpers") is None:
    sys.path.insert(0, "..")  # in a clone that was not installed, as on Colab
from dreamer_helpers import course

print(course.setup(seed=0, passport=True))

# %% [markdown]
# The line above names the machine that this runs on. A CPU is enough for all lessons; where there is a GPU (CUDA, or
# Apple's MPS), the course uses it by itself.
#
# ## 1. The world
#
# A fox stands in an orchard at dusk. The picture has five columns and five rows. Three apples and a burr fall, each in a
# column of its own, one row a step; the moon and the stars only shine. These are all the rules:
#
# * In each step the fox goes one column to the left or to the right, or stays. Then everything falls by a row.
# * An apple that lands where the fox stands is caught: it is gone, and the **reward** is 1.
# * An apple that lands elsewhere is not lost: it falls again from the top of its column, and so does the burr, always.
# * The burr on the nose costs 1 each time; the fox winces in that picture.
# * With the last apple the **episode**, one game from its start to its end, is over. After 25 steps it is cut, whatever
#   is left.
# * Who falls where and where the fox stands is drawn anew for each episode. Nothing else is chance.
#
# The sum of an episode's rewards is its **return**. Here is one episode as a film, an animated GIF that begins anew at
# its end:

# %%
import numpy as np
import torch

from dreamer_helpers import bounds, dreams, plots
from dreamer_helpers.course import claims
from dreamer_helpers.course.data import recorded, shipped
from dreamer_helpers.course.exercises import exercise, hint, scoreboard, show_solution
from dreamer_helpers.course.lesson_00.reading import differences, faults
from dreamer_helpers.train import DreamerV3, evaluate
from dreamer_helpers.video import Film, side_by_side, to_uint8
from dreamer_helpers.widgets import DreamPlayer

ORCHARD = "dreamer_helpers/Orchard-v0"
agent = DreamerV3.from_checkpoint(shipped("orchard_agent.safetensors"))
walk = dreams.record_episode(agent, ORCHARD, seed=0)
Film(
    walk.obs["image"],
    f"Film of one episode of {len(walk)} pictures. A fox at the bottom of a dusky orchard walks to the "
    f"left and to the right under three falling apples and a green burr. Its return is {walk.reward.sum():.0f}.",
    fps=3,
)

# %% [markdown]
# The fox is played by an agent that came with the course. Nobody told it what an apple is, or any of the rules. It has
# lived through 14,000 steps of this world, which took some five minutes on one CPU core. How well does it play? Beside it
# stand two numbers that follow from the rules: what random moves get on average, and the best that can be had.

# %%
returns = evaluate(agent, ORCHARD, 25)
known = bounds.orchard(layouts=50)
print(
    f"25 episodes of the agent: mean return {np.mean(returns):.2f}, the worst {np.min(returns):.0f}"
)
print(f"at random {known['random']:.2f}   the best possible {known['best']:.2f}")

# %% [markdown]
# ## 2. The dream
#
# To play like this, the agent learned to predict: *if I go right now, what will I see?* It can do so again and again
# without looking up. That is its dream.
#
# Below are two pictures. On the left the world, on the right the dream. The agent watched five pictures in which the fox
# stood still, and then **closed its eyes**; from now on it is told nothing but your moves.
#
# *Predict, before you play: over fifteen steps, what will most often be drawn wrong: the fox's place, its face, an apple,
# the burr, or the count of rewards?* Then play, two or three times ("new world" begins again), and look for it. Use the
# buttons, or click into the box and use the arrow keys. Where a world opens with fewer than three apples, one fell on the
# fox while the agent watched. The dream counts the rewards that it *expects*: if it is not sure of an apple, it counts a
# part of one, and "1.3" may stand there.

# %%
player = DreamPlayer(agent, ORCHARD, buttons={"left": 0, "stay": 1, "right": 2}, seed=4)
player

# %% [markdown]
# Every picture on the right was made by a small network out of 128 numbers and 8 choices among 8. No pixel was copied.
#
# A few games prove nothing, so let us count. The course brings forty recorded games of random moves. The agent watches
# five pictures of each and dreams the rest, up to fifteen steps, with the moves of the game. Where a dream leaves
# something open, it draws lots, so we let it dream each game three times. Then we read off, picture by picture, what
# stands where, and compare. The second column is a test: the same games with **open eyes**, where the agent sees each
# picture and has only to draw what it saw. The cell takes a while, up to a minute or more: 160 dreams of fifteen steps.

# %%
games = [game for game in recorded("orchard_episodes.npz") if len(game) > 5]
closed = [dreams.open_loop(agent, game, context=5, seed=lot) for lot in range(3) for game in games]
opened = [dreams.open_loop(agent, game, context=len(game) - 1) for game in games]
wrong = [faults(dream, game.reward, start=5) for dream, game in zip(closed, games * 3, strict=True)]
drawn = [faults(dream, game.reward, start=5) for dream, game in zip(opened, games, strict=True)]


def percent(values):
    return f"{100 * np.mean(values):12.0f} %"


print(f"{'wrong at least once':<26}   eyes closed     eyes open")
for kind in wrong[0]:
    print(f"{kind:<26}{percent([w[kind] for w in wrong])}{percent([d[kind] for d in drawn])}")
print(f"{'any of these':<26}{percent([any(w.values()) for w in wrong])}", end="")
print(percent([any(d.values()) for d in drawn]))

# %%
FACE = "the fox's hurt face"
winces = [bool((game.reward[5:] < 0).any()) for game in games]
faces = [w[FACE] for w, wince in zip(wrong, winces * 3, strict=True) if wince]
drawn_faces = [d[FACE] for d, wince in zip(drawn, winces, strict=True) if wince]
rest = [any(fault for kind, fault in w.items() if kind != FACE) for w in wrong]
print(f"the fox winces in {sum(winces)} of {len(games)} games; there the face is wrong")
print(f"   in {sum(faces)} of {len(faces)} dreams with closed eyes")
print(f"   in {sum(drawn_faces)} of {len(drawn_faces)} games with open eyes")
print(f"dreams with a fault other than the face: {sum(rest)} of {len(rest)}")

# %% [markdown]
# About four dreams in ten go wrong somewhere; leave the face aside, and it is two in ten. The fox is always where it should
# be: its place follows from your moves. The count of rewards is off in a few dreams of a hundred. What goes wrong most
# often are two things:
#
# * **The hurt face.** The dream draws a smear where the fox winces. But so it does with open eyes, and not less often: of
#   the games in which the fox winces at all, most are drawn wrong either way. This is a fault of drawing, not of dreaming.
#   A wince is rare, and lasts for one picture. The next picture shows one.
# * **The apples.** In about one dream in five an apple is missing that is there in the world, or a **ghost apple** falls
#   that is not there. With open eyes this never happens. So it is the dreaming that does it: one wrong guess, and nothing
#   that corrects it.

# %%
hurt = next(i for i, d in enumerate(drawn) if d[FACE])
wince = 5 + int(np.argmax(games[hurt].reward[5:] < 0))
shown = [opened[hurt].real[wince] / 255, opened[hurt].dreamed[wince], closed[hurt].dreamed[wince]]
figure, names = (
    plots.new_figure(6, 2.3),
    ["the world", "drawn with open eyes", "dreamed with closed eyes"],
)
plots.draw_frames(figure.subplots(), [np.stack(shown)], "a wince", names)
plots.Picture(
    figure,
    "Three pictures of a moment in which a burr lands on the fox: the world, where it winces, the agent's "
    "drawing with open eyes, and its dream, in which the face is a smear.",
)

# %% [markdown]
# Here is a dream with a ghost apple, again as a film (GIF), the world on the left and the dream on the right. Under it
# stand, in a row, one from before that moment and then every second one.

# %%
ghosts = [i for i, w in enumerate(wrong) if w["an apple too many"]]
dream, game = closed[ghosts[0]], games[ghosts[0] % len(games)]
moment = 5 + int(np.argmax(differences(dream.real[5:], dream.dreamed[5:])["an apple too many"]))
Film(
    side_by_side([dream.real, to_uint8(dream.dreamed)]),
    f"Film of {len(game)} pictures: the world on the left, the dream on the right. They are nearly alike until, "
    f"{moment - 4} steps after the eyes closed, the dream shows an apple that the world has not.",
    fps=2,
    scale=6,
)

# %%
figure, part = plots.new_figure(8.5, 2.9), [moment - 3, *range(moment, len(game), 2)]
steps = [f"step {t - 4}" for t in part]
title = "the world above, the dream below; counted from when the eyes closed"
plots.draw_frames(figure.subplots(), [dream.real[part], dream.dreamed[part]], title, steps)
words = f"Two rows of pictures, the world above the dream. At step {moment - 4} the dream has an apple more; "
words += "later one of the true apples fades from it, and at the end it has as many as the world, but not the same."
plots.Picture(figure, words)

# %% [markdown]
# Look to the right of the burr: a shade at first (from step 2 on), then an apple, which falls and comes back as the true
# ones do. And look on to the end: one of the true apples fades, and is gone from step 11 on. The dream has as many apples
# as the world again, but not the same ones.
#
# Do the three dreams of one game go wrong alike? *Predict: of the games in which some dream has a wrong apple, in how many
# have all three?*

# %%
wrong_apple = [w["an apple too many"] or w["an apple too few"] for w in wrong]
apples = np.reshape(wrong_apple, (3, len(games))).sum(0)  # of the three dreams of each game
for number in range(4):
    print(f"{number} of the three dreams have a wrong apple: {np.sum(apples == number):2} games")

# %% [markdown]
# In few. The same pictures and the same moves lead to a wrong apple in one dream and not in another; nothing but the lots
# differed, so the lots decided.
#
# And how right are the pictures as a whole? We take the squared error per pixel, and compare it with that of a lazy
# dreamer who keeps the last picture that it saw.


# %%
def dream_error(dream):
    """Squared error per pixel of a dream, and of repeating the last picture seen."""
    real, start = dream.real / 255.0, dream.context
    lazy = np.square(real[start - 1] - real[start:]).mean()
    return np.square(dream.dreamed - real)[start:].mean(), lazy


dreamed, lazy = np.mean([dream_error(dream) for dream in closed], axis=0)
print(f"dream {dreamed:.5f}   lazy {lazy:.5f}   share {dreamed / lazy:.1%}")

# %% tags=["nbval-check-output"]
way = (np.mean(returns) - known["random"]) / (known["best"] - known["random"])
fox_right = np.mean([not w["the fox in another place"] for w in wrong])
claims(
    {
        "from random to best, the agent gets four fifths of the way or more": way > 0.8,
        "one dream in ten or more has a wrong apple": np.mean(wrong_apple) > 0.1,
        "in 19 dreams of 20 or more, the fox is in its place": fox_right > 0.95,
        "the dreams have a tenth of the lazy error or less": dreamed < 0.1 * lazy,
    }
)

# %% [markdown]
# ## 3. What a world model is, and what it is not
#
# Put words to what you saw; the course needs them.
#
# | word | meaning |
# | --- | --- |
# | **world model** | the network that predicts pictures, rewards, and whether the game goes on |
# | **latent state** | what it carries from step to step in place of pictures: here 128 numbers and 8 choices |
# | **posterior** | its latent state of this moment after seeing the picture: open eyes |
# | **prior** | the same without the picture, from the state before and the move: closed eyes |
# | **open loop** | dreaming on with closed eyes, prior upon prior |
# | **actor** | the network that chooses moves; it learns in dreams alone |
# | **critic** | the network that judges how much reward is still to come; it learns mostly in dreams |
#
# * It is **not the game's program**. No rule of section 1 is written in it, or it could not dream a fourth apple.
# * It is **not a recording**. There are 25,600 layouts to begin with (5 columns for the burr
#   times 4 for the empty one, $4^4$ heights, as nothing begins on the ground, and 5 places of the fox); even if every episode had taken but four pictures,
#   14,000 steps would have shown 3,500 of them.
# * It is **not the player**. It says what follows a move; which move is good, the actor says.
# * It is **not the future**. Where it is not sure, it draws lots, and each lot looks like a world.
# * It does **not have to stop**. It predicts that a game is over, but you can dream on behind the end: in the player above
#   the world then stands still, and the dream goes on.
#
# ## 4. How exercises work
#
# In the lessons you write the missing lines yourself. You get a *stub*, a function with `...` in it. Run the cell as it is:
# one quiet line tells you that it waits, and everything below works with the course's own version. Write yours in place of
# the dots and run the cell again: it is checked at once, with words about what is wrong, and used from there on.
#
# ### Your turn: `symlog_slope`, a warm-up
# *Two minutes, one line.* Return $1 / (1 + \lvert x \rvert)$ for each entry of a torch tensor `x`. Lesson 01 needs it: it
# is the slope of a curve that you will build there. What the check asks for, here and in most exercises:
#
# * any shape comes out as it went in: a single number (0-d), an empty tensor, a row, a batch;
# * dtype and device are those of `x`. A plain `1` adapts by itself; a tensor that you make needs `device=x.device`;
# * `x` is not changed, and gradients flow through: torch functions, without `.item()`, `.detach()` or NumPy. At exactly 0,
#   where the bars have a kink, the gradient may be what you like.
#
# Try it wrong once, to see what happens: forget the bars. The check answers with an input, what came of it, and what is
# right: `symlog_slope(tensor(-1.0)) gave inf, and 0.5 is right`.


# %%
@exercise("symlog_slope")
def symlog_slope(x):
    # x (...) -> (...)
    ...


# %%
# hint("symlog_slope")  # stuck? take away the first #; each run gives one more hint

# %%
print([round(v, 3) for v in symlog_slope(torch.tensor([0.0, 1.0, -9.0])).tolist()])

# %%
scoreboard("00")

# %% [markdown]
# What passes is kept in your *passport*, the file `passport.json` beside your notebooks. The first cell of every lesson
# opens it, and your parts are used from there on, in later lessons and after a restart: a stub says "yours, from lesson 00,
# is used", and `course.part("symlog_slope")` gives you yours anywhere.
#
# <details><summary>On Colab, or from one machine to another</summary>Colab forgets files, so take the passport along as text:
# after <code>from dreamer_helpers.course.passport import Passport</code>, the call
# <code>Passport.load().export_json()</code> gives it, and <code>Passport.load().import_json(text)</code> takes it back.
# Nothing that was imported is run before you have looked at it: <code>course.trust()</code> shows it, and takes it when you
# call it again.</details>
#
# ## 5. How lessons work
# * **Predict, then run.** Where a sentence in italics asks you to predict, do. The answer stands below the cell.
# * **Move the sliders.** They answer at once; the sentence below each figure says in words what is to be seen.
# * **Claims.** A cell with `claims(...)` prints what the text asserts, checked on *your* machine.
# * **Stop at any time.** Your copies of the lessons are yours; `make fresh LESSON=01` gives a clean one and keeps yours.
#
# **Three questions**
#
# <details><summary>1. The eyes are closed. What is the dream still told, and what can it no longer notice?</summary>It is
# told each move. It cannot notice that it guessed wrong: a ghost apple keeps falling until the eyes open.</details>
# <details><summary>2. Somebody trains a larger network for drawing pictures from the latent state, and leaves all else as it
# is. Which of the faults may vanish, which will stay?</summary>The hurt face may be drawn better, if the state knows of it.
# The ghost apples stay: they come from wrong guesses of the state, and a better brush draws them more sharply.</details>
# <details><summary>3. The agent misses an apple in its third step. What happens to the apple, and what is the worst that
# can come of it?</summary>It falls again from the top of its column. At worst the 25 steps are over before it is caught:
# then its reward of 1 is never had.</details>
#
# **Next**: lesson 01, symlog: one ruler for ants and mountains.
