# %% [markdown]
# # 01 Symlog: one ruler for ants and mountains
#
# One agent is to learn a game that pays 1 for a win, another that pays hundreds of thousands, and a third in which
# every reward is a small loss. Nobody may tell it beforehand which is which. In this lesson you build the function
# with which DreamerV3 looks at numbers of unknown size, and you see what goes wrong without it.
#
# | | |
# | --- | --- |
# | You will be able to | write `symlog`, `symexp` and the slope from memory; say what each half is for, and where it misleads |
# | You need | Python, a little torch, what a derivative is |
# | Reading | about 20 minutes |
# | Computing | under a minute on two CPU cores (not measured on a Colab GPU) |
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

from dreamer_helpers import plots
from dreamer_helpers.course import claims
from dreamer_helpers.course.board import scoreboard
from dreamer_helpers.course.exercises import exercise, hint, reset, show_solution
from dreamer_helpers.course.lesson_01.widgets import RewardHistogram, SymlogExplorer

# %% [markdown]
# ## 1. A puzzle: three purses
#
# Three games pay into one purse: a **maze** pays 1 if you remember the way, a **pendulum** costs up to 16 a step until
# it stands, and a **treasure hunt** pays anything from 1 to 100,000. You learn to guess what comes next, and every
# mistake costs you its square.
#
# *Predict before you run: which share of your worries belongs to the maze?*
#
# The first two are real tasks, played at random here. The treasure hunt is made up: its prizes are spread evenly over
# the powers of ten.


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

# %%
worry = {
    name: np.mean(values**2) for name, values in rewards.items()
}  # squared error of guessing 0
for name, value in worry.items():
    print(f"{name:<10} {value / sum(worry.values()):.1e}")

# %% [markdown]
# The maze gets a few parts in a million million. Whoever learns all three from squared errors learns the treasure
# hunt, and then some more of the treasure hunt.
#
# And one game alone? A modern optimiser divides gradients by their usual size, so that each update moves a weight by
# about the learning rate, whatever the numbers are. Here is one weight that shall become the number 0.001, 1 or 1000,
# with 200 updates of Adam, at two learning rates:


# %%
def learned(target, rate):
    w = torch.zeros(1, requires_grad=True)
    adam = torch.optim.Adam([w], lr=rate)
    for _ in range(200):
        adam.zero_grad()
        ((w - target) ** 2).sum().backward()
        adam.step()
    return w.item()


for target in (0.001, 1.0, 1000.0):
    small, large = learned(target, 0.05), learned(target, 20.0)
    print(f"target {target:8}   rate 0.05: {small:8.4f}   rate 20: {large:10.4f}")

# %% [markdown]
# At the small rate 1 is learned, and 0.001 too; but at 1000 the weight has walked 200 steps of 0.05 and is hardly on its
# way. The large rate gets to 1000, but 0.001 comes out as 0.0014, off by 40 %: what is precise for the one is coarse for
# the other. So the size of the numbers decides which settings learn them, and DreamerV3 wants **one set of
# hyperparameters** for everything.
#
# ## 2. Four rulers that break
#
# *Before you read the table: which of these would you try first, and on which game does it fail?*
#
# | ruler | formula | where it breaks |
# | --- | --- | --- |
# | cut off | $\max(-1, \min(1, x))$ | 1 and 100,000 look the same: nothing is worth a detour any more |
# | divide by the largest | $x / \max \lvert x \rvert$ | the largest is not known before it was met; then the small ones vanish |
# | square root | $\mathrm{sign}(x)\sqrt{\lvert x \rvert}$ | infinitely steep at 0, so that tiny noise is blown up; 100,000 is still 316 |
# | logarithm | $\log x$ | has no value at 0, and none below |

# %%
x = torch.tensor([-16.0, -0.01, 0.0, 0.01, 1.0, 1000.0, 100_000.0])
rulers = {
    "cut off": x.clamp(-1, 1),
    "by the largest": x / x.abs().max(),
    "square root": x.sign() * x.abs().sqrt(),
    "logarithm": x.log(),
}
for name, values in rulers.items():
    print(f"{name:<16}", "  ".join(f"{v:8.4f}" for v in values.tolist()))

# %% [markdown]
# A wish list follows from the failures:
#
# 1. **odd**: losses are treated as gains, $f(-x) = -f(x)$;
# 2. **monotone**: more stays more;
# 3. **like $x$ near 0**: games that pay little are left as they are;
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
# ### Your turn: `symlog`
# *About 3 minutes. One line is enough.* Input: a tensor of any shape. Output: the same shape. It is to be right at
# $10^{-8}$ too, where a computer rounds $1 + x$ to 1; torch has a function that never makes that sum. Run the cell as it
# is and nothing breaks: the course's own is used until yours is right.


# %%
@exercise("symlog")
def symlog(x):
    # x (...) -> (...)
    ...


# %%
# hint("symlog")  # stuck? take away the first #; each run gives one more hint

# %%
for value in (0.0, 0.01, 1.0, 10.0, 1000.0, 100_000.0, -16.0):
    print(f"{value:10}  ->  {symlog(torch.tensor(value)).item():8.4f}")

# %% [markdown]
# From 0.01 to 100,000 is a factor of ten million; symlog brings it into a range of 12.
#
# ### A detail that costs nothing and saves small numbers
#
# *Predict: what is $\log(1 + 10^{-8})$ on a computer?* A float32 has about seven digits.

# %%
tiny = torch.tensor(1e-8)
print("log(1 + tiny)", torch.log(1 + tiny).item(), "   log1p(tiny)", torch.log1p(tiny).item())

# %% [markdown]
# $1 + 10^{-8}$ is rounded to 1 before the logarithm sees it. `log1p` never makes the sum. The first release of
# DreamerV3 wrote `log(1 + |x|)`, today's code `log1p`: at the sizes of ordinary rewards they agree.

# %% tags=["nbval-check-output"]
points = torch.linspace(-50, 50, 1001)
claims(
    {
        "odd": torch.equal(symlog(-points), -symlog(points)),
        "monotone": bool((symlog(points).diff() > 0).all()),
        "like x near 0: at 0.001 off by less than a thousandth": abs(
            symlog(torch.tensor(0.001)).item() / 0.001 - 1
        )
        < 1e-3,
        "far out, ten times as much is log(10) further": abs(
            (symlog(torch.tensor(1e6)) - symlog(torch.tensor(1e5))).item() - np.log(10)
        )
        < 1e-4,
    }
)

# %% [markdown]
# ## 4. The slope: how much does a mistake still count?
#
# A network that predicts symlog values is corrected in proportion to the slope of symlog. Far out a mistake of 1
# hardly shows; near 0 it shows fully.
#
# *Predict: guessing 998 in place of 999, and guessing 0 in place of 1. Which mistake is larger after symlog, and by
# how much?*

# %%
for guess, truth in ((0.0, 1.0), (998.0, 999.0), (500.0, 999.0)):
    a, b = symlog(torch.tensor([guess, truth])).tolist()
    print(
        f"{guess:5.0f} for {truth:4.0f}:   off by {truth - guess:5.0f}   after symlog by {b - a:.4f}"
    )

# %% [markdown]
# So near 0 symlog counts what you are off by, and far out by which *share* you are off: half of the way costs about
# $\log 2 = 0.69$ at any size far out. The slope says both in one formula.
#
# $$\frac{d}{dx}\,\mathrm{symlog}(x) = \,?$$
#
# ### Your turn: `symlog_slope`
# *About 2 minutes.* You met it in lesson 00; now derive it. For positive $x$ it is a derivative from school, at $-x$ it is
# what it is at $x$, and at 0 it is 1. No autograd needed.


# %%
@exercise("symlog_slope")
def symlog_slope(x):
    # x (...) -> (...)
    ...


# %%
# hint("symlog_slope")  # stuck? take away the first #; each run gives one more hint

# %%
at = torch.tensor([0.0, 1.0, 9.0, 99.0, 999.0], requires_grad=True)
(by_autograd,) = torch.autograd.grad(symlog(at).sum(), at)
print("slope   ", [round(v, 4) for v in symlog_slope(at.detach()).tolist()])
print("autograd", [round(v, 4) for v in by_autograd.tolist()])

# %% [markdown]
# At 999 the slope is a thousandth. There is one place to look at twice: at exactly 0, autograd goes through `sign`,
# whose slope is 0, and through `abs`, whose slope at 0 torch takes as 0 too. The true slope is 1.
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
# *About 3 minutes. One line.* Mind small numbers: what is $e^{0.00000001} - 1$ on a computer?


# %%
@exercise("symexp")
def symexp(x):
    # x (...) -> (...)
    ...


# %%
# hint("symexp")  # stuck? take away the first #; each run gives one more hint

# %%
there = torch.tensor([-1e8, -16.0, -0.001, 0.0, 0.5, 7.0, 1e8])
for before, y, after in zip(
    there.tolist(), symlog(there).tolist(), symexp(symlog(there)).tolist(), strict=True
):
    print(f"{before:14.6g}  ->  {y:9.5f}  ->  {after:14.6g}")

# %% [markdown]
# There and back, to a hundred million. The last digits suffer, because symexp magnifies: a rounding error in the
# seventh digit of 18.42 becomes an error of $10^8$ times as much.
#
# *Predict: for which $y$ does symexp become infinite?* The largest float32 is about $3.4 \cdot 10^{38}$.

# %%
low, high = 0.0, 200.0  # symexp(low) is finite, symexp(high) is not
for _ in range(40):
    middle = (low + high) / 2
    low, high = (middle, high) if symexp(torch.tensor(middle)).isfinite() else (low, middle)
largest = torch.finfo(torch.float32).max
print(
    f"last finite y: {low:.3f}    symlog of the largest float32: {symlog(torch.tensor(largest)).item():.3f}"
)

# %% [markdown]
# ### Are there other rulers of this kind?
# Yes: the inverse hyperbolic sine, $\mathrm{arsinh}(x) = \log(x + \sqrt{x^2 + 1})$, fulfils the whole wish list too.
# *Predict: by how much do the two differ at a million?* For large $x$ the root is nearly $x$, so that arsinh is nearly
# $\log 2x$.

# %%
for value in (0.1, 1.0, 1000.0, 1e6):
    t = torch.tensor(value)
    print(f"{value:10}   symlog {symlog(t).item():8.4f}   arsinh {torch.asinh(t).item():8.4f}")

# %% [markdown]
# They part by $\log 2$ and no more. Near 0 both have slope 1; arsinh keeps it for longer, which is why 1 becomes 0.88
# there and 0.69 here. Which of the two an agent learns better with is a question for an experiment; we know of none.
#
# ### A warning
# On the way back an error of 1 becomes, far out, a factor of 2.7: at a million it is an error of 1.7 million. And a
# network that says 89 by mistake has said *infinity*. Keep that in mind for lesson 02, where DreamerV3 avoids it by never
# letting the networks that predict rewards and values say a number at all.
#
# ## 6. Move it
#
# The slider moves a point by powers of ten and zooms along. *Before you drag: at which power does the dotted line,
# $y = x$, part from the curve?*

# %%
explorer = SymlogExplorer()
explorer

# %%
explorer.set(power=-1.0)
print(explorer.alt)
explorer.set(power=3.0, sign="-")
print(explorer.alt)

# %% [markdown]
# And the three purses, as they are and after symlog. *Before you switch: how wide will the maze be?*

# %%
histogram = RewardHistogram(rewards)
histogram

# %%
print(histogram.set(shown="symlog").alt)

# %% [markdown]
# ## 7. Predict, then run: one small network, three purses
#
# A network sees which game it is in and a number $u$ between 0 and 1, and shall predict a reward: $0.001 u$, $u$ or
# $1000 u$. One learning rate, 600 updates, twice: once with the plain squared error, once with the squared error of
# symlogs, the network's answer read through symexp. Three seeds each, of which the table shows the worst.
#
# *Predict: which of the six entries will be bad?* A relative error of 1 means: no better than always saying 0.


# %%
def train_on_three_scales(encode, decode, seed, updates=600):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    scales = torch.tensor([0.001, 1.0, 1000.0])

    def batch(n):
        game, u = torch.randint(3, (n,)), torch.rand(n)
        return (
            torch.cat([nn.functional.one_hot(game, 3).float(), u[:, None]], 1),
            game,
            scales[game] * u,
        )

    for _ in range(updates):
        inputs, _, reward = batch(128)
        loss = (net(inputs)[:, 0] - encode(reward)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    inputs, game, reward = batch(3000)
    error = (decode(net(inputs)[:, 0].detach()) - reward).abs()
    return [(error[game == i].mean() / reward[game == i].mean()).item() for i in range(3)]


def worst_of_three(encode, decode):
    return np.max([train_on_three_scales(encode, decode, seed) for seed in range(3)], axis=0)


plain = worst_of_three(lambda r: r, lambda y: y)
squeezed = worst_of_three(symlog, symexp)
print("relative error      0.001          1       1000")
print("plain        ", "  ".join(f"{e:9.3f}" for e in plain))
print("symlog       ", "  ".join(f"{e:9.3f}" for e in squeezed))

# %% [markdown]
# Plain, the large game is learned and the two others are drowned: on the game that pays 1 the worst network is worse
# than always saying 0, and on the smallest it is off by more than a thousand times the reward. With symlog the games that pay 1
# and 1000 are learned together. The game that pays 0.001 is still lost, if less so: near 0 symlog is the identity, and
# so small a number is small for it too. **Symlog tames what is large. It does not lift what is small.** (The percentile
# scaling of lesson 07 has the same floor, on purpose: rewards may be tiny because they do not matter.)

# %%
figure = plots.new_figure(7.0, 2.6)
axes = plots.tidy(
    figure.subplots(), "relative error, by the size of the rewards", "", "relative error"
)
places = np.arange(3)
axes.bar(places - 0.2, plain, 0.38, color=plots.COLOURS[1], label="plain squared error")
axes.bar(places + 0.2, squeezed, 0.38, color=plots.COLOURS[0], label="squared error of symlogs")
axes.axhline(1.0, color="0.4", linewidth=0.8, linestyle="--")
axes.set(xticks=places, xticklabels=["0.001", "1", "1000"], yscale="log")
axes.legend(fontsize=8, frameon=False)
plots.Picture(
    figure,
    f"Bars of the relative error. Plain: {plain[0]:.2g}, {plain[1]:.2g}, {plain[2]:.2g} for rewards of size 0.001, "
    f"1, 1000. With symlog: {squeezed[0]:.2g}, {squeezed[1]:.2g}, {squeezed[2]:.2g}.",
)

# %% tags=["nbval-check-output"]
claims(
    {
        "plain: on the game that pays 1 the worst seed is no better than always saying 0": plain[1]
        > 1,
        "symlog: the game that pays 1 is learned, to a quarter in the worst case": squeezed[1]
        < 0.25,
        "symlog: the game that pays 1000 too": squeezed[2] < 0.25,
        "symlog does not lift the game that pays 0.001": squeezed[0] > 1,
    }
)

# %% [markdown]
# ## 8. A trap: the mean of squeezed numbers
#
# A lottery ticket pays 1000 with a chance of one in ten, else nothing. It is worth 100. *What does a network learn
# that minimises the squared error of symlogs?*

# %%
tickets = torch.tensor([1000.0] + [0.0] * 9)
best_in_symlog = symlog(tickets).mean()  # the minimiser of a squared error is the mean
print("worth        ", tickets.mean().item())
print("learned      ", round(symexp(best_in_symlog).item(), 3))

# %% [markdown]
# It learns 0.995, a hundred times too little. The mean of logarithms is not the logarithm of the mean: rare, large
# prizes are squeezed before they are averaged. For things that are certain, this does not matter; for rewards and
# values, which are chances, it is fatal.
#
# > **Where sources disagree.** It is often said that in DreamerV3 "all predictions use symlog". They do not. Vector
# > observations go through symlog, as input and as target of the decoder, with a squared error (without the factor
# > 1/2 that the paper prints). Images are predicted plainly, and whether an episode goes on is a coin. Rewards and
# > values are *distributions* over bins: in the version of January 2023 over bins evenly spaced in symlog space, whose
# > average has the trap above; in the version in *Nature* and in today's code over bins spaced by symexp, whose
# > average has not. Lesson 02 builds both.

# %% tags=["nbval-check-output"]
claims(
    {
        "in symlog space the ticket is worth less than a fiftieth": symexp(best_in_symlog).item()
        < 100 / 50,
        "a certain 100 stays 100": abs(symexp(symlog(torch.tensor(100.0))).item() - 100) < 1e-3,
        "symexp overflows between 88 and 89": 88 < low < 89,
    }
)

# %% [markdown]
# ## 9. Where it stands in the agent
#
# The encoder of the world model takes vectors through symlog, and the decoder predicts symlogs. See it happen: an
# agent is shown a number a million times as large as another, and its first layer sees 13.8 in place of a million.
# Images do not need it: their pixels lie between 0 and 1. Rewards and values do, and get something better still, in
# the next lesson.

# %%
from gymnasium import spaces

from dreamer_helpers.config import preset
from dreamer_helpers.world_model import WorldModel

config = preset("cpu", vector_scale=1.0)
model = WorldModel(config, spaces.Dict({"vector": spaces.Box(-np.inf, np.inf, (1,))}), 2)
seen = []
first = next(layer for layer in model.encoder.modules() if isinstance(layer, nn.Linear))
first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten().tolist()))
model.encoder({"vector": torch.tensor([[1.0], [1e6]])})
print("the first layer sees", [round(v, 2) for v in seen[0]])

# %% [markdown]
# ## Go further
#
# symlog changes from "like $x$" to "like a logarithm" around 1. Put a knee $c$ in:
# $f_c(x) = \mathrm{sign}(x)\, c \log(1 + \lvert x \rvert / c)$. Train the network of section 7 with $c = 0.001$.
# Which of the three games gains? Which property of the wish list do you pay with, if all rewards are noise of size
# 0.001? There is no check for this one; the experiment answers.
#
# ## What you have built

# %%
scoreboard("01")

# %%
show_solution("symlog")

# %% [markdown]
# * `symlog` squeezes numbers of any size and either sign, leaves small ones alone, and `symexp` leads back.
# * Its slope, $1 / (1 + \lvert x \rvert)$, counts absolute mistakes near 0 and relative ones far out.
# * It tames the large, does not lift the small, and must not be averaged over chances.
#
# **Three questions**
#
# <details><summary>1. Why not simply log(|x|) with the sign put back?</summary>It goes to minus infinity at 0 and jumps
# there from one sign to the other. The 1 inside makes it pass through 0 with slope 1.</details>
# <details><summary>2. A reward is always exactly 1000. Does it matter whether one averages before or after symlog?
# </summary>No: with a single certain value both agree. The trap needs chance.</details>
# <details><summary>3. The observations of a robot are metres in one entry and millimetres in another. What does symlog
# do for it?</summary>It brings 5000 down to 8.5 and leaves 0.3 as it is. The large entry no longer drowns the small one,
# but an entry of size 0.001 stays small.</details>
#
# **In the paper**: equation 9 and the section on robust predictions in *Mastering diverse control tasks through world
# models* (Nature 640, 2025). **Next**: lesson 02, two-hot: predict a number without ever saying one.
