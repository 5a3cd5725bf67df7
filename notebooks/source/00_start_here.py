# %% [markdown]
# # 00 Start here: a walk in somebody else's dream
#
# This course builds DreamerV3, an agent that learns a model of its world and then learns to act inside its own dreams.
# Before you build anything: walk into such a dream. It takes two minutes.
#
# | | |
# | --- | --- |
# | You will be able to | say what a world model is and is not; find your way through a lesson; solve an exercise |
# | You need | Python; a keyboard or a mouse |
# | Reading | about 8 minutes |
# | Computing | a few seconds on two CPU cores (not measured on a Colab GPU) |
# | Exercises | 1, to see how they work |

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
# A fox stands in an orchard at dusk. Three apples fall, one row a step, and so does a burr. An apple caught is worth 1, the
# burr on the nose costs 1, and with the last apple the episode ends. That is the world, 32 x 32 pixels of it:

# %%
import numpy as np
import torch

from dreamer_helpers import bounds, dreams, plots
from dreamer_helpers.course import claims
from dreamer_helpers.course.board import scoreboard
from dreamer_helpers.course.data import recorded, shipped
from dreamer_helpers.course.exercises import exercise, hint, reset, show_solution
from dreamer_helpers.train import DreamerV3, evaluate
from dreamer_helpers.video import Film
from dreamer_helpers.widgets import DreamPlayer

ORCHARD = "dreamer_helpers/Orchard-v0"
agent = DreamerV3.from_checkpoint(shipped("orchard_agent.safetensors"))
walk = dreams.record_episode(agent, ORCHARD, seed=11, max_steps=25)
Film(
    walk.obs["image"],
    "A fox walks under falling apples and catches them, and stays out of the way of a burr.",
    fps=4,
)

# %% [markdown]
# The fox is played by an agent that came with the course. Nobody told it what an apple is. It has lived through 14,000
# steps of this world and spent some five minutes of one CPU core on them, and this is how it plays:

# %%
returns = evaluate(agent, ORCHARD, 25)
known = bounds.orchard(layouts=50)
print(
    f"the agent {np.mean(returns):.2f}   at random {known['random']:.2f}   the best possible {known['best']:.2f}"
)

# %% [markdown]
# ## 2. The dream
#
# To play like this, the agent learned to predict: *if I go right now, what will I see?* It can do so again and again
# without looking up. That is its dream.
#
# Below are two pictures. On the left the world, on the right the dream. The agent watched five frames and then **closed
# its eyes**; from now on it is told nothing but your moves. Play! Use the buttons, or click into the box and use the
# arrow keys.
#
# *Before you start, predict: what will go wrong first, the fox, the falling things, or the counting of caught apples?*

# %%
player = DreamPlayer(agent, ORCHARD, buttons={"left": 0, "stay": 1, "right": 2}, seed=3)
player

# %%
player.play([2, 2, 2, 1, 1, 0, 0, 0])  # the same from code; now play on above
print(player.alt)

# %% [markdown]
# If all went well you saw next to no difference, and that is remarkable: every picture on the right was made by a small
# network out of 128 numbers and 8 choices. No pixel was copied. Behind the end of the world's episode the left picture
# stands still, while the dream goes on: nothing in it ever has to stop.
#
# How right is it? The course brings forty recorded games of random moves, in layouts drawn anew. The agent watches five
# frames of each and dreams the rest, with the same moves. The error is compared with that of a lazy dreamer who keeps the
# last picture it saw.


# %%
def dream_error(game, context=5):
    """Squared error per pixel of the dream and of repeating the last frame seen."""
    loop = dreams.open_loop(agent, game, context)
    real = loop.real / 255.0
    return (
        np.square(loop.dreamed - real)[context:].mean(),
        np.square(real[context - 1] - real[context:]).mean(),
    )


games = [game for game in recorded("orchard_episodes.npz") if len(game) > 5]
errors = np.array([dream_error(game) for game in games])
dreamed, lazy = errors.mean(0)
print(f"dream {dreamed:.5f}   lazy {lazy:.5f}   share {dreamed / lazy:.1%}")

# %% tags=["nbval-check-output"]
claims(
    {
        "the agent gets at least four fifths of the way from random to best": np.mean(returns)
        > known["random"] + 0.8 * (known["best"] - known["random"]),
        "its dreams have at most a tenth of the lazy error": dreamed < 0.1 * lazy,
    }
)

# %% [markdown]
# ### What a dream is made of
# Put words to what you saw; the course needs them.
#
# | word | meaning |
# | --- | --- |
# | **world model** | the network that predicts pictures, rewards, and whether the game goes on |
# | **latent state** | what it carries in place of pictures: numbers, and a few choices among classes |
# | **posterior** | its belief about this moment after seeing the picture |
# | **prior** | its belief before, or with eyes closed |
# | **open loop** | dreaming on without looking up |
# | **actor, critic** | the networks that choose moves, and judge how good things will be; the actor learns in dreams alone, the critic mostly |
#
# ## 3. How exercises work
#
# In the lessons you write the missing lines yourself. You get a *stub*, a function with `...` in it. Run the cell as it is:
# one quiet line tells you that it waits, and everything below works with the course's own version. Write yours in place of
# the dots and run the cell again: it is checked at once, with words about what is wrong, and used from there on.
#
# ### Your turn: `symlog_slope`, a warm-up
# *Two minutes, one line.* Return $1 / (1 + \lvert x \rvert)$ for a torch tensor `x`. (It is the slope of a function that
# you will build in lesson 01.) Try it wrong once, to see what happens: forget the bars.


# %%
@exercise("symlog_slope")
def symlog_slope(x):
    # x (...) -> (...)
    ...


# %%
# hint("symlog_slope")  # stuck? take away the first #; each run gives one more hint

# %%
print([round(v, 3) for v in symlog_slope(torch.tensor([0.0, 1.0, -9.0])).tolist()])

# %% [markdown]
# What passes is kept in your *passport*: the file `passport.json` beside your notebooks holds the source of every part that
# you wrote. The first cell of every lesson opens it, and names what is in it. From there on your parts are used, in later
# lessons and after a restart: a stub says "yours, from lesson 00, is used", and `course.part("symlog_slope")` gives you yours
# anywhere. On Colab, where files are forgotten, take it along: after
# `from dreamer_helpers.course.passport import Passport`, the call `Passport.load().export_json()` gives it as text, and
# `Passport.load().import_json(text)` takes it back. Nothing that was imported is run before you have looked at it:
# `course.trust()` shows it, and takes it when you call it again.
#
# ## 4. How lessons work
# * **Predict, then run.** Where a sentence in italics asks you to predict, do. It is the difference between reading and
#   learning.
# * **Move the sliders.** They answer at once; the sentence below each figure says in words what is to be seen.
# * **Claims.** A cell with `claims(...)` prints what the text asserts, checked on *your* machine.
# * **Stop at any time.** Your copies of the lessons are yours; `make fresh LESSON=01` gives a clean one and keeps yours.
#
# **Next**: lesson 01, symlog: one ruler for ants and mountains.
