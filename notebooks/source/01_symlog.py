# %% [markdown]
# # 01 Symlog: one ruler for ants and mountains
#
# One agent is to learn a game that pays 1 for a win, another that pays hundreds of thousands, and a third in which
# every reward is a small loss. Nobody may tell it beforehand which is which. In this lesson you build the function
# with which DreamerV3 looks at numbers of unknown size, and you see what goes wrong without it, and what with it.
#
# | | |
# | --- | --- |
# | You will be able to | write `symlog` and `symexp` from memory; say what each half is for, what it costs, and where it misleads |
# | You need | Python, a little torch, what a derivative is; `symlog_slope` of lesson 00 |
# | Reading | about 25 minutes |
# | Computing | about two minutes on two CPU cores (not measured on a Colab GPU) |
# | Exercises | 3, and one to go further |

# %%
import importlib.util
import sys

if importlib.util.find_spec("dreamer_helpers") is None:
    sys.path.insert(0, "..")  # in a clone that was not installed, as on Colab
from dreamer_helpers import course

print(course.setup(seed=0, passport=True))

# %%
import gymnasium as gym
import numpy as np
import torch
from torch import nn

from dreamer_helpers.course import claims
from dreamer_helpers.course.exercises import exercise, hint, reset, scoreboard, show_solution
from dreamer_helpers.course.lesson_01 import pictures
from dreamer_helpers.course.lesson_01.widgets import RewardHistogram, SymlogExplorer

# %% [markdown]
# ## 1. A puzzle: three purses
#
# Three games pay into one purse: a **maze** pays 1 if you remember the way, a **pendulum** costs up to 16 a step until
# it stands, and a **treasure hunt** pays anything from 1 to 100,000. The first two are real tasks, played at random here.
# The treasure hunt is made up: its prizes are spread evenly over the powers of ten.


# %%
def rewards_of(env_id, steps=300):
    env = gym.make(env_id)
    env.reset(seed=0)
    env.action_space.seed(0)
    found = []
    for _ in range(steps):
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        found.append(float(reward))
        if terminated or truncated:
            env.reset()
    return np.array(found)


rng = np.random.default_rng(0)
rewards = {
    "maze": rewards_of("dreamer_helpers/TMaze-v0", 3000),
    "pendulum": rewards_of("Pendulum-v1"),
    "treasure": 10 ** rng.uniform(0, 5, 300),
}
for name, values in rewards.items():
    print(f"{name:<10} from {values.min():10.2f} to {values.max():10.2f}")

# %% [markdown]
# You learn to guess what comes next, and every mistake costs you its square. At first you always guess 0: then your
# *worry* about a game is the mean of its squared rewards.
#
# *Predict: which share of the three worries together belongs to the maze? Say it as a power of ten.*

# %%
worry = {name: np.mean(values**2) for name, values in rewards.items()}
for name, value in worry.items():
    print(f"{name:<10} {value / sum(worry.values()):.1e}")

# %% [markdown]
# The maze gets a few parts in a million million ($10^{-12}$). Whoever learns all three from squared errors learns the
# treasure hunt, and then some more of the treasure hunt.
#
# And one game alone? A modern optimiser such as Adam divides gradients by their usual size, so that each update moves a
# weight by about the *learning rate*, whatever the numbers are. Here is one weight that shall become the number 0.001, 1
# or 1000, with 200 updates of Adam, at a rate of 0.05 and at one of 20.
#
# *Predict: which of the six come within 1 % of their target?*


# %%
def learned(targets, rate):
    """The number that 200 updates of Adam make of 0, for the mean squared error to the targets."""
    w = torch.zeros(1, requires_grad=True)
    adam = torch.optim.Adam([w], lr=rate)
    for _ in range(200):
        adam.zero_grad()
        ((w - targets) ** 2).mean().backward()
        adam.step()
    return w.item()


for target in (0.001, 1.0, 1000.0):
    small, large = learned(torch.tensor(target), 0.05), learned(torch.tensor(target), 20.0)
    print(f"target {target:8}   rate 0.05: {small:9.6f}   rate 20: {large:12.6f}")

# %% [markdown]
# Four. At the small rate 1 is learned, and 0.001 too; but towards 1000 the weight has walked 200 steps of 0.05 and is
# hardly on its way. The large rate gets to 1000 and to 1, but 0.001 comes out as 0.0014, off by 40 %. So the size of the
# numbers decides which settings learn them, and DreamerV3 wants **one set of hyperparameters** for everything.
#
# ## 2. Four rulers that break
#
# A *ruler* shall turn rewards into numbers that one can learn with. Four candidates:
#
# * **cut off**: $\max(-1, \min(1, x))$
# * **by the largest**: $x / \max \lvert x \rvert$, here with 100,000 as the largest
# * **square root**: $\mathrm{sign}(x)\sqrt{\lvert x \rvert}$
# * **logarithm**: $\log x$
#
# *Predict, one for each: which cannot measure the pendulum at all? Which takes 1 and 100,000 for the same? Which makes the
# maze vanish? Which blows up tiny noise around 0?*

# %%
rulers = {
    "cut off": lambda x: x.clamp(-1, 1),
    "by the largest": lambda x: x / 100_000,
    "square root": lambda x: x.sign() * x.abs().sqrt(),
    "logarithm": lambda x: x.log(),
}
x = torch.tensor([-16.0, -0.01, 0.0, 0.01, 1.0, 1000.0, 100_000.0])
print("x               ", "  ".join(f"{v:8g}" for v in x.tolist()))
for name, ruler in rulers.items():
    print(f"{name:<16}", "  ".join(f"{v:8.4f}" for v in ruler(x).tolist()))
pictures.rulers_picture(rulers)

# %% [markdown]
# | ruler | where it breaks |
# | --- | --- |
# | cut off | 1 and 100,000 look the same: nothing is worth a detour any more |
# | by the largest | the maze's 1 becomes 0.00001; and the largest is not known before it was met |
# | square root | infinitely steep at 0, so that noise of 0.01 becomes 0.1; and 100,000 is still 316 |
# | logarithm | has no value at 0, and none below, where the pendulum lives |
#
# A wish list follows from the failures:
#
# 1. **odd**: losses are treated as gains, $f(-x) = -f(x)$;
# 2. **monotone**: more stays more;
# 3. **like $x$ near 0**: what is tiny is neither blown up nor lost;
# 4. **like a logarithm far out**: ten times as much is one step further, whatever the size.
#
# ## 3. Symlog
#
# $$\mathrm{symlog}(x) = \mathrm{sign}(x)\,\log\bigl(1 + \lvert x \rvert\bigr)$$
#
# | symbol | in code | shape | meaning |
# | --- | --- | --- | --- |
# | $x$ | `x` | `(...)` | numbers of any size, any shape: everything is elementwise |
# | $\mathrm{sign}(x)$ | `torch.sign(x)` | `(...)` | -1, 0 or 1 |
# | $\log$ | natural logarithm | | the one with base $e = 2.718...$ |
#
# By hand, for one number: the sign of -7.39 is -1; $1 + 7.39 = 8.39$; its logarithm is 2.13. So symlog is -2.13.

# %%
number = -7.39
sign, size = (-1 if number < 0 else 1), abs(number)
print("sign", sign, "  size", size, "  symlog", round(sign * np.log(1 + size), 2))

# %% [markdown]
# ### A detail that costs nothing and saves small numbers
#
# *Predict: what does a computer say to $\log(1 + 10^{-8})$?* A float32 has about seven digits. torch also has a function
# for $\log(1 + y)$ in one piece.

# %%
tiny = torch.tensor(1e-8)
print("log(1 + tiny)", torch.log(1 + tiny).item(), "   log1p(tiny)", torch.log1p(tiny).item())

# %% [markdown]
# Exactly 0: $1 + 10^{-8}$ is rounded to 1 before the logarithm sees it. `log1p` never makes the sum. The first release of
# DreamerV3 wrote `log(1 + |x|)`, today's code `log1p`: at the sizes of ordinary rewards they agree.
#
# ### Your turn: `symlog`
# *About 3 minutes. One line is enough.* Run the cell as it is and nothing breaks: the course's own is used until yours is
# right. What the checks ask for, here and in the other exercises of this lesson:
#
# * **values**: right to four digits at any size, $10^{-18}$ as well as $10^{18}$, of either sign, and at 0;
# * **shapes**: any shape comes out as it went in: a single number (0-d), an empty tensor, a row, a batch;
# * **dtype and device**: those of the input, float64 with its own digits. Plain numbers adapt by themselves; a tensor that you make needs
#   `dtype=x.dtype, device=x.device`;
# * **gradients** flow through, and the input is not changed: torch functions, without `.item()`, `.detach()`, NumPy or a
#   loop over entries. At exactly 0, where the bars have a kink, the gradient may be what you like.


# %%
@exercise("symlog")
def symlog(x):
    # x (...) -> (...)
    ...


# %%
# hint("symlog")  # stuck? take away the first #; each run gives one more hint

# %%
for value in (0.0, 0.01, 0.3, 1.0, 10.0, 1000.0, 100_000.0, -16.0):
    print(f"{value:10}  ->  {symlog(torch.tensor(value)).item():8.4f}")
pictures.rulers_picture({**rulers, "symlog": symlog})

# %% [markdown]
# From 0.01 to 100,000 is a factor of ten million; symlog brings it into a range of 12. And "near 0" means hundredths: 0.01
# stays 0.01, but 0.3 is 0.262 already.

# %% tags=["nbval-check-output"]
points = torch.linspace(-50, 50, 1001)
near = symlog(torch.tensor([0.001, 0.3])) / torch.tensor([0.001, 0.3])
step = (symlog(torch.tensor(1e6)) - symlog(torch.tensor(1e5))).item()
claims(
    {
        "odd": torch.equal(symlog(-points), -symlog(points)),
        "monotone": bool((symlog(points).diff() > 0).all()),
        "like x near 0: at 0.001 off by less than a thousandth": near[0] > 0.999,
        "not so at 0.3, which loses more than a tenth": near[1] < 0.9,
        "far out, ten times as much is log(10) further": abs(step - np.log(10)) < 1e-4,
    }
)

# %% [markdown]
# ## 4. The slope: how much does a mistake still count?
#
# *Predict: guessing 0 in place of 1, and guessing 998 in place of 999. Which mistake is larger after symlog, and how many
# times as large?*

# %%
for guess, truth in ((0.0, 1.0), (998.0, 999.0), (500.0, 999.0)):
    a, b = symlog(torch.tensor([guess, truth])).tolist()
    print(
        f"{guess:5.0f} for {truth:4.0f}:   off by {truth - guess:5.0f}   after symlog {b - a:.4f}"
    )

# %% [markdown]
# The mistake near 0, by a factor of about 700. So near 0 symlog counts what you are off by, and far out by which *share*
# you are off: half of the way costs about $\log 2 = 0.69$ at any size far out. The slope says both in one formula. For
# positive $x$ it is a derivative from school, $1 / (1 + x)$; and as symlog is odd, its slope at $-x$ is the one at $x$:
#
# $$\frac{d}{dx}\,\mathrm{symlog}(x) = \frac{1}{1 + \lvert x \rvert}$$
#
# This is the `symlog_slope` that you wrote in lesson 00. Is it what autograd finds? *Predict: autograd goes through `sign`
# and `abs`, one after the other. At which of these five points does it say something else?*

# %%
symlog_slope = course.part("symlog_slope")

at = torch.tensor([0.0, 1.0, 9.0, 99.0, 999.0], requires_grad=True)
(by_autograd,) = torch.autograd.grad(symlog(at).sum(), at)
print("slope   ", [round(v, 4) for v in symlog_slope(at.detach()).tolist()])
print("autograd", [round(v, 4) for v in by_autograd.tolist()])

# %% [markdown]
# At exactly 0, if symlog is written with `sign` and `abs`: the slope of `sign` is 0, and torch takes that of `abs` at 0 as
# 0 too. The true slope is 1.
#
# *Does that hurt?* It would, if zeros were common where a gradient has to pass. In DreamerV3 symlog is applied to
# observations and targets, which are given and not learned, so no gradient goes through it at all.
#
# ## 5. The way back: symexp
#
# A prediction that was learned in symlog space must come back. Solve $y = \log(1 + x)$ for $x$:
#
# $$\mathrm{symexp}(y) = \mathrm{sign}(y)\,\bigl(\exp(\lvert y \rvert) - 1\bigr)$$
#
# ### Your turn: `symexp`
# *About 3 minutes. One line.* The checks ask for the same as those of `symlog`, tiny numbers included; where the result does
# not fit into the dtype, it is infinite. The detail of section 3 has a twin here: $e^{y}$ is rounded to 1 before one can
# subtract 1.


# %%
@exercise("symexp")
def symexp(x):
    # x (...) -> (...)
    ...


# %%
# hint("symexp")  # stuck? take away the first #; each run gives one more hint

# %%
there = torch.tensor([-1e8, -16.0, -0.001, 0.5, 7.0, 1e8])
back = symexp(symlog(there))
for before, y, after in zip(there.tolist(), symlog(there).tolist(), back.tolist(), strict=True):
    print(f"{before:13.6g}  ->  {y:9.5f}  ->  {after:16.9g}   off by {abs(after / before - 1):.0e}")

# %% [markdown]
# There and back, to a hundred million, but not to the last digit: near 18.42 the numbers of float32 lie two millionths
# apart, so that rounding may *add* a millionth; and what is added in symlog space is *multiplied* on the way back. One
# millionth of a hundred million is a hundred; here it was 24.
#
# *Predict: from which $y$ on is symexp infinite?* The largest float32 is about $3.4 \cdot 10^{38}$, and $\log 10 = 2.3$.

# %%
low, high = 0.0, 1000.0  # symexp(low) is finite, symexp(high) is not
for _ in range(40):
    middle = (low + high) / 2
    low, high = (middle, high) if symexp(torch.tensor(middle)).isfinite() else (low, middle)
largest = symlog(torch.tensor(torch.finfo(torch.float32).max)).item()
print(f"last finite y: {low:.3f}    symlog of the largest float32: {largest:.3f}")

# %% [markdown]
# From 88.7 on, which is $38.5 \cdot 2.3$. On the way there, an error of 1 becomes a factor of 2.7: at a million it is an
# error of 1.7 million. And a network that says 89 by mistake has said *infinity*. Keep that in mind for lesson 02, where
# DreamerV3 avoids it by never letting the networks that predict rewards and values say a number at all.
#
# ### Are there other rulers of this kind?
# Yes: the inverse hyperbolic sine, $\mathrm{arsinh}(x) = \log(x + \sqrt{x^2 + 1})$, fulfils the whole wish list too.
# *Predict: by how much do the two differ at a million, as a difference?*

# %%
for value in (0.1, 1.0, 1000.0, 1e6):
    t = torch.tensor(value)
    print(f"{value:10}   symlog {symlog(t).item():8.4f}   arsinh {torch.asinh(t).item():8.4f}")

# %% [markdown]
# For large $x$ the root is nearly $x$, so that arsinh is nearly $\log 2x$: they part by $\log 2 = 0.69$ and no more. Near 0
# both have slope 1; arsinh keeps it for longer, which is why 1 becomes 0.88 there and 0.69 here. Which of the two an agent
# learns better with is a question for an experiment; we know of none.
#
# ## 6. Move it
#
# The slider moves a point by powers of ten, and the picture zooms along to twice its size. *Before you drag, predict: at
# which power of ten does symlog first fall more than a tenth short of $y = x$, the dotted line?*

# %%
explorer = SymlogExplorer()
explorer

# %%
copy = SymlogExplorer()  # a copy, so that yours stays where you left it
for power in (-1.0, -0.75, -0.5, 3.0):
    print(copy.set(power=power).alt)

# %% [markdown]
# Between -0.75 and -0.5: at 0.32 symlog is 0.27. And the three purses, as they are and after symlog. *Before you switch,
# predict: which share of the axis will the maze take up, in percent?*

# %%
histogram = RewardHistogram(rewards)
histogram

# %%
print(RewardHistogram(rewards).set(shown="symlog").alt)

# %% [markdown]
# About 5 %, where it had a thousandth of a percent. It got there by the others shrinking: its own 1 became 0.69.
#
# ## 7. Predict, then run: one small network, three purses
#
# A network sees which game it is in and a number $u$, drawn evenly between 0 and 1, and shall predict a reward: $0.001 u$,
# $u$ or $1000 u$. One learning rate, 600 updates, twice: once with the plain squared error, once with the squared error of
# symlogs, the network's answer read through symexp. Three seeds each, of which the table shows the worst.
#
# The *relative error* is the mean error divided by the mean reward: at 1 it is no better than always saying 0. *Predict:
# which of the six will be above 1? And for the game that pays 1000: which ruler does better, and how many times?*


# %%
def train_on_three_scales(encode, decode, reward_of, seed, updates=600):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    scales = torch.tensor([0.001, 1.0, 1000.0])

    def batch(n):
        game, u = torch.randint(3, (n,)), torch.rand(n)
        inputs = torch.cat([nn.functional.one_hot(game, 3).float(), u[:, None]], 1)
        return inputs, game, reward_of(scales[game], u)

    for _ in range(updates):
        inputs, _, reward = batch(128)
        loss = (net(inputs)[:, 0] - encode(reward)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    inputs, game, reward = batch(3000)
    error = (decode(net(inputs)[:, 0].detach()) - reward).abs()
    return [(error[game == i].mean() / reward[game == i].mean()).item() for i in range(3)]


# %%
def worst_of_three(encode, decode, reward_of):
    runs = [train_on_three_scales(encode, decode, reward_of, seed) for seed in range(3)]
    return np.max(runs, axis=0)


def evenly(scale, u):
    return scale * u


plain = worst_of_three(lambda r: r, lambda y: y, evenly)
squeezed = worst_of_three(symlog, symexp, evenly)
errors = {"plain squared error": plain, "squared error of symlogs": squeezed}
for name, row in errors.items():
    print(f"{name:<26}", "  ".join(f"{e:9.3f}" for e in row))
pictures.errors_picture(errors, ("0.001", "1", "1000"))

# %% [markdown]
# Above 1 are three. Plain, the large game is learned and the two others are drowned: on the game that pays 1 the worst
# network is worse than always saying 0, and on the smallest it is off by more than a thousand times the reward. With symlog
# the games that pay 1 and 1000 are learned together. The game that pays 0.001 is still lost, if less so: near 0 symlog is
# the identity, and so small a number is small for it too. **Symlog tames what is large. It does not lift what is small.**
#
# It has its price: on the game that pays 1000 the error is 0.003 plain and 0.090 with symlog, thirty times as much. Why? A
# suspicion: as a function of $u$ the reward is a straight line, easy to learn, and its symlog is a bent one, steepest of
# all at $u = 0$. That can be tested. We let the reward grow so that its *symlog* is the straight line:
# $\mathrm{symexp}(u \cdot \mathrm{symlog}(1000))$, from 0 to 1000 as before, and likewise for the two other games.
#
# *Predict: which ruler does better now on the game that pays 1000?*


# %%
def straight_after_symlog(scale, u):
    return symexp(u * symlog(scale))


plain_bent = worst_of_three(lambda r: r, lambda y: y, straight_after_symlog)
squeezed_bent = worst_of_three(symlog, symexp, straight_after_symlog)
print(f"the game that pays 1000:  plain {plain_bent[2]:.3f}   symlog {squeezed_bent[2]:.3f}")

# %% [markdown]
# Now symlog does. So the price is one of shape: a learner finds it harder to follow a bent line than a straight one, and
# symlog bends what was straight and straightens what grew by factors.

# %% tags=["nbval-check-output"]
claims(
    {
        "plain, the game that pays 1 is worse than always saying 0": plain[1] > 1,
        "with symlog those of 1 and 1000 are learned to a quarter": squeezed[1:].max() < 0.25,
        "symlog does not lift the game that pays 0.001": squeezed[0] > 1,
        "rewards on a straight line: symlog costs precision": squeezed[2] > 5 * plain[2],
        "straight after symlog: it gains some": squeezed_bent[2] < plain_bent[2],
    }
)

# %% [markdown]
# ## 8. A trap: the mean of squeezed numbers
#
# A lottery ticket pays 1000 with a chance of one in ten, else nothing. It is worth 100 on average. A learner is shown many
# such tickets and looks for the one number with the smallest squared error; once of the prizes, once of their symlogs,
# read through symexp.
#
# *Predict: what does each of the two say the ticket is worth?*

# %%
tickets = torch.tensor([1000.0] + [0.0] * 9)
print("plain      ", round(learned(tickets, 20.0), 1))
print("of symlogs ", round(symexp(torch.tensor(learned(symlog(tickets), 0.05))).item(), 3))

# %% [markdown]
# The first says 100, the second 0.995, a hundred times too little. Is this an accident of one ticket, of Adam, of 200
# updates?
#
# ### Your turn: `learned_worth`
# *About 6 minutes. One line, but one to think about.* Say beforehand what the second learner will come to for a ticket that
# pays `prize` with a chance of `chance`, and else nothing.
#
# * Input: two tensors. `chance` lies from 0 to 1, both ends included; `prize` may be a gain or a loss, from $10^{-8}$ to
#   $10^{8}$ in size, or 0.
# * Output: what the learner says, read through symexp, so in the units of `prize`. Shapes *broadcast*, as in
#   `chance * prize`: `(3, 1)` and `(4,)` give `(3, 4)`; single numbers (0-d) and empty tensors too.
# * As before: right to four digits, dtype and device of the inputs, which are not changed, and gradients to both (a prize
#   or a chance of exactly 0 excepted).
#
# Your `symlog` and `symexp` are there to be used.


# %%
@exercise("learned_worth")
def learned_worth(chance, prize):
    # chance (...), prize (...) -> (...)
    ...


# %%
# hint("learned_worth")  # stuck? take away the first #; each run gives one more hint

# %% [markdown]
# Now hold it against the experiment: for each ticket a learner is trained, and beside it stands what you say.

# %%
print("chance    prize      worth    trained    learned_worth")
for tenths, prize in ((1, 1000.0), (5, 1000.0), (9, 1000.0), (5, -20.0), (1, 0.05)):
    tickets = torch.tensor([prize] * tenths + [0.0] * (10 - tenths))
    trained = symexp(torch.tensor(learned(symlog(tickets), 0.5))).item()
    said = learned_worth(torch.tensor(tenths / 10), torch.tensor(prize)).item()
    print(f"{tenths / 10:6}  {prize:7}  {tickets.mean().item():9.4f}  {trained:9.4f}  {said:9.4f}")

# %% [markdown]
# No accident. The mean of logarithms is not the logarithm of the mean: rare, large prizes are squeezed before they are
# averaged. But the last ticket got nearly its worth. *Predict: up to which prize, as a power of ten, does a ticket with a
# chance of 0.1 keep nine tenths of its worth?*

# %%
pictures.tickets_picture(learned_worth, (0.9, 0.5, 0.1))

# %% [markdown]
# Up to a prize of about 0.1 ($10^{-1}$ keeps 96 %, and $10^{0}$ 72 %). Where symlog is like $x$ there is nothing to
# squeeze; beyond, the rarer the prize and the larger, the more is lost. For what is certain this does not matter; for
# rewards and values, which hang on chance, it does.
#
# > **Where sources disagree.** It is often said that in DreamerV3 "all predictions use symlog". They do not. Vector
# > observations go through symlog, as input and as target of the decoder, with a squared error (without the factor
# > 1/2 that the paper prints). Images are predicted plainly, and whether an episode goes on is a coin. Rewards and
# > values are *distributions* over bins: in the version of January 2023 over bins evenly spaced in symlog space, whose
# > average has the trap above; in the version in *Nature* and in today's code over bins spaced by symexp, whose
# > average has not. Lesson 02 builds both.

# %% tags=["nbval-check-output"]
chances, prize = torch.tensor([0.1, 1.0]), torch.tensor(1000.0)
rare, sure = learned_worth(chances, prize)
claims(
    {
        "the ticket is learned as less than a fiftieth of its worth": rare < 100 / 50,
        "a prize that is certain keeps its worth": abs(sure - 1000) < 1,
        "a loss is squeezed as a gain is": abs(rare + learned_worth(chances, -prize)[0]) < 1e-4,
        "symexp overflows between 88 and 89": 88 < low < 89,
    }
)

# %% [markdown]
# ## 9. Where it stands in the agent
#
# The encoder of the world model takes vectors through symlog, and the decoder predicts symlogs. See it happen, with your
# `symlog` in its place, and once more with no ruler at all. The world model is shown the numbers 1 and 1,000,000. Images do
# not need it: their pixels lie between 0 and 1. Rewards and values do, and get something better still, in the next lesson.
#
# *Predict: what does its first layer see in their place, with each of the two rulers?*

# %%
from gymnasium import spaces

from dreamer_helpers.config import preset
from dreamer_helpers.parts import Parts

config = preset("cpu", vector_scale=1.0)
space = spaces.Dict({"vector": spaces.Box(-np.inf, np.inf, (1,))})
for ruler in (symlog, torch.clone):  # torch.clone leaves numbers as they are
    seen = []
    model = Parts(symlog=ruler).make_world_model(config, space, action_dim=2)
    first = next(layer for layer in model.encoder.modules() if isinstance(layer, nn.Linear))
    first.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.extend(inputs[0].flatten()))
    model.encoder({"vector": torch.tensor([[1.0], [1e6]])})
    print(ruler.__name__, "->", [round(v.item(), 2) for v in seen])

# %% [markdown]
# The symlogs of 1 and of a million, 0.69 and 13.82: one is twenty times the other, and not a million times.
#
# ## Go further
#
# symlog changes from "like $x$" to "like a logarithm" around 1. Put a knee $c$ in:
# $f_c(x) = \mathrm{sign}(x)\, c \log(1 + \lvert x \rvert / c)$. Train the network of section 7 with $f_c / c$ and its
# inverse, for $c = 0.001$. Which of the three games gains? Which property of the wish list do you pay with, if all rewards
# are noise of size 0.001? You need a copy of the last cells of section 7, and half a minute.
#
# <details><summary>What a run of ours gave</summary>The worst relative errors were 0.29, 0.13 and 0.14: now all three games
# are learned, the smallest too. The price is "like $x$ near 0": noise of size 0.001 now counts as much as anything else.
# </details>
#
# ## What you have built

# %%
scoreboard("01")

# %%
show_solution("symlog")

# %% [markdown]
# * `symlog` squeezes numbers of any size and either sign, leaves hundredths alone, and `symexp` leads back.
# * Its slope, $1 / (1 + \lvert x \rvert)$, counts absolute mistakes near 0 and relative ones far out.
# * It tames the large, does not lift the small, costs precision where things were straight, and must not be averaged over
#   chances: `learned_worth` says what comes of it.
#
# **Three questions**
#
# <details><summary>1. Why not simply log(|x|) with the sign put back?</summary>It goes to minus infinity at 0 and jumps
# there from one sign to the other. The 1 inside makes it pass through 0 with slope 1.</details>
# <details><summary>2. A reward is always exactly 1000. Does it matter whether one averages before or after symlog?
# </summary>No: with a single certain value both agree. The trap needs chance.</details>
# <details><summary>3. The observations of a robot are metres in one entry and millimetres in another. What does symlog
# do for it?</summary>It brings 5000 down to 8.5, and 0.3 to 0.26. The large entry no longer drowns the small one, but an
# entry of size 0.001 stays small.</details>
#
# **In the paper**: the section on robust predictions in *Mastering diverse control tasks through world models* (Nature
# 640, 2025). **Next**: lesson 02, two-hot: predict a number without ever saying one.
