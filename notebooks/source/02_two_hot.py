# %% [markdown]
# # 02 Two-hot: predict a number without ever saying one
#
# A reward may be 0.01 or 100,000, and it may be a matter of chance. In this lesson you build the way in which DreamerV3
# predicts rewards and values: its networks do not put out a number but a *distribution* over 255 fixed bins, and are
# trained like classifiers. At the end one network predicts rewards that differ by a factor of a thousand, and says
# what a lottery ticket is worth.
#
# | | |
# | --- | --- |
# | You will be able to | encode a number over bins and read it back without loss; say why the gradient no longer depends on the size of the number; tell the two versions of two-hot apart |
# | You need | lesson 01, softmax, cross-entropy |
# | Reading | about 25 minutes |
# | Computing | about one minute on two CPU cores (not measured on a Colab GPU) |
# | Exercises | 4, and one to go further |

# %%
import importlib.util
import sys

if importlib.util.find_spec("dreamer_helpers") is None:
    sys.path.insert(0, "..")  # in a clone that was not installed, as on Colab
from dreamer_helpers import course

print(course.setup(seed=0, passport=True))

# %%
import numpy as np
import torch
from torch import nn

from dreamer_helpers import plots
from dreamer_helpers.course import budget, claims
from dreamer_helpers.course.exercises import exercise, hint, reset, scoreboard, show_solution
from dreamer_helpers.course.lesson_02.widgets import LotteryExplorer, TwoHotExplorer

symlog, symexp = course.part("symlog"), course.part("symexp")

# %% [markdown]
# ## 1. A puzzle: the shouting network
#
# Two networks are wrong. One says 5 where 6 is right, the other says 500 where 600 is right. Squared error punishes
# the second ten thousand times as hard. *Who deserves more correction?* With symlog (lesson 01) they would get nearly
# the same. But symlog failed at chances: it took a ticket worth 100 for one worth 1.
#
# *Predict: can there be a loss whose gradient never grows with the number, and whose minimum is still the true mean?*
#
# Look at what a classifier does. Three classes, logits 0, and the right class is the last:

# %%
logits = torch.zeros(3, requires_grad=True)
loss = -torch.log_softmax(logits, -1)[2]
loss.backward()
print("loss", round(loss.item(), 4), "  gradient", [round(g, 4) for g in logits.grad.tolist()])

# %% [markdown]
# The gradient is *probabilities minus target*: no entry can leave the range from -1 to 1, **whatever the classes
# mean**. Now let class 0 mean the number -1000, class 1 the number 0 and class 2 the number 1000. The gradient does not
# change. That is the whole idea; what is left is to say numbers that lie *between* the classes.
#
# ## 2. Bins: classes that mean numbers
#
# *How would you place 255 bins, if a number may be 0.1 or a hundred million?* Evenly in symlog space: dense near 0,
# ever wider far out.
#
# $$b_i = \mathrm{symexp}(y_i), \qquad y = (-20, \dots, 20) \text{ in } n \text{ even steps}$$
#
# | symbol | in code | shape | meaning |
# | --- | --- | --- | --- |
# | $b$ | `bins` | `(n,)` | the numbers that the classes stand for, rising |
# | $n$ | `n` | 255 in DreamerV3 | how many; odd, so that the middle one is 0 |
# | $\pm 20$ | `limit` | scalar | symexp(20) is 485 million |

# %%
y = torch.linspace(-3, 3, 7)
print("symlog space", [round(v, 2) for v in y.tolist()])
print("bins        ", [round(v, 2) for v in symexp(y).tolist()])

# %% [markdown]
# *Predict: are these bins an exact mirror image of themselves?* They should be: the network starts with all logits 0,
# which must mean 0 and not a little more.

# %%
long = torch.linspace(-20, 20, 255)
print("middle of linspace", long[127].item(), "   mirror image:", torch.equal(long, -long.flip(0)))

# %% [markdown]
# `linspace` rounds its two halves differently. So one half is computed and mirrored, as the official code does.
#
# ### Your turn: `symexp_bins`
# *About 6 minutes.* `n` is odd. Output: shape `(n,)`, rising, exactly antisymmetric, from $-\mathrm{symexp}(20)$ to
# $\mathrm{symexp}(20)$. You may use `symexp`.


# %%
@exercise("symexp_bins")
def symexp_bins(n=255, limit=20.0):
    # -> (n,)
    ...


# %%
# hint("symexp_bins")  # stuck? take away the first #; each run gives one more hint

# %%
bins = symexp_bins()  # (255,)
middle = len(bins) // 2
print("around 0 ", [round(b, 3) for b in bins[middle - 2 : middle + 3].tolist()])
print("the last ", [f"{b:.3g}" for b in bins[-3:].tolist()])
print(
    "below 1  ",
    int(((bins > 0) & (bins < 1)).sum()),
    "positive bins;  above 1000:",
    int((bins > 1000).sum()),
)

# %% [markdown]
# Neighbouring bins differ by about 17 % far out: 20 times 2 over 254 steps is 0.157 in symlog space, and
# $e^{0.157} = 1.17$. *Is that not far too coarse to tell a return of 480 from one of 500?* It would be, if the network
# had to choose one bin. It does not: the mean of two bins can be any number between them, as exactly as the network
# can set two probabilities. So the small preset `cpu` of this course gets by with 63 bins, each nearly twice as large as
# the one before ($e^{40/62} = 1.91$), and can still tell 480 from 500.
#
# ## 3. Two-hot: a number between two bins
#
# The number 0.5 lies between the bins 0 and 2. Give each of the two a weight, so that the **mean** is 0.5: three
# quarters on 0, one quarter on 2. The nearer bin gets more.
#
# $$w_{\text{above}} = \frac{x - b_{\text{below}}}{b_{\text{above}} - b_{\text{below}}}, \qquad
# w_{\text{below}} = 1 - w_{\text{above}}$$
#
# | symbol | in code | shape | meaning |
# | --- | --- | --- | --- |
# | $x$ | `x` | `(...)` | the number to encode, in raw space |
# | $w$ | `weight` | `(...)` | how far x is on its way from the lower to the upper neighbour |
# | | result | `(..., n)` | zeros but for two entries that sum to 1: *two-hot* |

# %%
five = torch.tensor([-10.0, -2.0, 0.0, 2.0, 10.0])
x = 0.5
below = max(i for i in range(5) if five[i] <= x)
weight = (x - five[below]) / (five[below + 1] - five[below])
print(
    "between",
    five[below].item(),
    "and",
    five[below + 1].item(),
    "  weight of the upper one",
    weight.item(),
)

# %% [markdown]
# *Predict: what should happen with 99, which lies beyond the last bin?* It cannot be said with these bins; the best
# that one can do is the last bin, with weight 1.
#
# ### Your turn: `two_hot_encoding`
# *About 10 minutes, the hardest of this lesson.* Input: `x` of any shape and rising `bins` of shape `(n,)`. Output:
# `(..., n)`. `torch.searchsorted` finds neighbours for all numbers at once. Beyond the ends: clip.


# %%
@exercise("two_hot_encoding")
def two_hot_encoding(x, bins):
    # x (...), bins (n,) -> (..., n)
    ...


# %%
# hint("two_hot_encoding")

# %%
for value in (0.5, 2.0, -4.0, 99.0):
    print(f"{value:6}", [round(w, 2) for w in two_hot_encoding(torch.tensor(value), five).tolist()])

# %% [markdown]
# ### Move it
# *Before you drag: when x stands exactly on a bin, how many bars are there?*

# %%
explorer = TwoHotExplorer()
explorer

# %%
explorer.set(y=0.8)
print(explorer.alt)
explorer.set(y=-2.35)
print(explorer.alt)

# %% [markdown]
# ## 4. The loss: cross-entropy with a soft target
#
# $$\mathcal{L} = -\sum_i \mathrm{twohot}(x)_i \, \log p_i, \qquad p = \mathrm{softmax}(\text{logits})$$
#
# | symbol | in code | shape | meaning |
# | --- | --- | --- | --- |
# | logits | `logits` | `(..., n)` | what the network puts out |
# | $x$ | `target` | `(...)` | the number that was right; no gradient goes there |
# | $\mathcal{L}$ | result | `(...)` | in nats |
#
# ### Your turn: `two_hot_loss`
# *About 4 minutes, two lines.* One loss for each number, as the shapes say: sum over the bins alone. Take `log_softmax`,
# not the logarithm of a softmax, which is $-\infty$ where a probability is rounded to 0. No gradient is to reach the
# target.


# %%
@exercise("two_hot_loss")
def two_hot_loss(logits, target, bins):
    # logits (..., n), target (...), bins (n,) -> (...)
    ...


# %%
# hint("two_hot_loss")

# %% [markdown]
# *Predict: how do the gradients for the targets 0.01, 1 and 100,000 compare, if all logits are 0?*

# %%
for target in (0.01, 1.0, 100_000.0):
    logits = torch.zeros(255, requires_grad=True)
    two_hot_loss(logits, torch.tensor(target), bins).backward()
    squared = torch.zeros((), requires_grad=True)
    (squared - target).square().backward()
    print(
        f"target {target:9}   gradient of two-hot {logits.grad.norm().item():.3f}   of the squared error "
        f"{abs(squared.grad.item()):.3g}"
    )

# %% [markdown]
# Between 0.7 and 1 for numbers that differ by a factor of ten million. (It depends a little on whether the number falls
# near a bin or between two.) No scaling, no clipping, no knowledge of the task.
#
# The price is paid elsewhere. Squared error knows that 5 is closer to 6 than 400 is; for cross-entropy all wrong bins
# are equally wrong, and that 5 and 6 are neighbours has to be learned from examples. In a network whose last layer has
# 255 outputs for one number, that is rarely a problem: nearby states share their features, and so their bins.
#
# ## 5. Reading the number back
#
# The prediction is the mean of the distribution: $\hat{x} = \sum_i p_i\, b_i$. One line. *What could go wrong?*

# %%
flat = torch.softmax(torch.zeros(255), -1)
print("flat logits, summed as they come:", (flat * bins).sum().item())

# %% [markdown]
# It should be 0, as the bins are a mirror image. But -485 million and 485 million are added in float32, which has seven
# digits: the small bins drown in the rounding of the large ones. An untrained critic that thinks every state is worth a
# little less than nothing, in *all* tasks, is a bad start. So each bin is **paired** with its mirror image before
# anything is added up:
#
# $$p_{up}\, b_{up} + p_{low}\, b_{low} \;=\; (p_{up} - p_{low})\, b_{up} \;+\; p_{low}\, (b_{up} + b_{low})$$
#
# Where the bins mirror each other the last bracket is 0, and with flat logits so is the first. Nothing large is left that
# would have to cancel, in whatever order a machine adds.
#
# ### Your turn: `two_hot_mean`
# *About 6 minutes.* Input: `logits` `(..., n)` and `bins` `(n,)`, n even or odd, and not always mirrored. Output:
# `(...)`. Softmax; pair each bin of the upper half with the one at the mirrored place, as in the equation (with n odd the
# middle one stays alone); then the sum. Flat logits over antisymmetric bins must give exactly 0.


# %%
@exercise("two_hot_mean")
def two_hot_mean(logits, bins):
    # logits (..., n), bins (n,) -> (...)
    ...


# %%
# hint("two_hot_mean")

# %%
print("flat logits:", two_hot_mean(torch.zeros(255), bins).item())
for value in (-1e6, -16.0, 0.01, 0.5, 1234.5):
    encoded = two_hot_encoding(torch.tensor(value), bins)
    print(f"{value:12}  ->  {two_hot_mean(encoded.log(), bins).item():14.6g}")

# %% tags=["nbval-check-output"]
numbers = torch.tensor([-1e6, -16.0, -0.3, 0.0, 0.01, 0.5, 77.0, 1e8])
back = two_hot_mean(two_hot_encoding(numbers, bins).log(), bins)
torch.manual_seed(0)
logits, target = torch.randn(50, 255, requires_grad=True), 1000 * torch.randn(50)
(slopes,) = torch.autograd.grad(two_hot_loss(logits, target, bins).sum(), logits)
claims(
    {
        "every number comes back, to a part in a thousand": torch.allclose(
            back, numbers, rtol=1e-3, atol=1e-5
        ),
        "flat logits mean exactly 0": two_hot_mean(torch.zeros(255), bins).item() == 0.0,
        "no entry of the gradient leaves the range from -1 to 1": slopes.abs().max().item() <= 1,
        "the gradient is probabilities minus encoding": torch.allclose(
            slopes, torch.softmax(logits, -1) - two_hot_encoding(target, bins), atol=1e-6
        ),
    }
)

# %% [markdown]
# ## 6. Chance: what is the ticket worth?
#
# 1000 with a chance of one in ten, else nothing. The best that a distribution over bins can do is the *average of the
# encodings*, since cross-entropy is smallest where $p$ equals the average target.

# %%
tickets = torch.tensor([1000.0] + [0.0] * 9)
average = two_hot_encoding(tickets, bins).mean(0)  # (255,) what a perfectly trained network says
print("mean over raw bins               ", round(two_hot_mean(average.log(), bins).item(), 2))
print("symexp of the mean of symlog bins", round(symexp((average * symlog(bins)).sum()).item(), 2))

# %% [markdown]
# The distribution knows that there are two possibilities; a single number could not. And it matters **in which space**
# the mean is taken:
#
# > **Where the versions differ.** In the version of January 2023, bins were evenly spaced in symlog space, the target
# > was symlog(x), and the answer was $\mathrm{symexp}(\sum_i p_i y_i)$: something like a typical value, here a hundred
# > times too small. The version in *Nature* and today's code put the bins through symexp and average there:
# > $\sum_i p_i b_i$, the true mean. On things that are certain the two agree.
#
# *Before you drag: at which chance do the two part most, for a prize of 1000? And for a prize of 1?*

# %%
lottery = LotteryExplorer()
lottery

# %%
print(lottery.set(chance=0.5, power=3.0).alt)
print(lottery.set(chance=0.5, power=0.0).alt)

# %% [markdown]
# For a prize of 1000 they part most at a chance of 0.72, with 720 against 144; for a prize of 1 a little above one half,
# with 0.53 against 0.44. The smaller the prize, the more symlog is the identity, and the better both agree.
#
# ### Why the output starts at 0
# The last layer of reward and critic starts with weights 0. *Predict: what would the first predictions be with ordinary
# random weights?*

# %%
torch.manual_seed(0)
features = torch.randn(5, 64)
random_layer, zero_layer = nn.Linear(64, 255), nn.Linear(64, 255)
nn.init.zeros_(zero_layer.weight)
nn.init.zeros_(zero_layer.bias)
for name, layer in (("random", random_layer), ("zero", zero_layer)):
    print(name, [f"{v:.3g}" for v in two_hot_mean(layer(features), bins).tolist()])

# %% [markdown]
# A little more probability on one side of bins that reach to 485 million, and an untrained critic dreams of millions.
# The actor would chase them for a long time.
#
# ## 7. Predict, then run: four ways to learn from three purses
#
# The network of lesson 01: it sees which game it is in and $u$ between 0 and 1, and shall predict $0.001 u$, $u$ or
# $1000 u$, **and in half of all cases the reward is 0 by chance**, so that its mean is half of that. Four losses, one
# learning rate, three seeds of which the worst is shown.
#
# *Predict: which loss will be right in the game that pays 1000, and in the one that pays 1? Which one underestimates?*

# %%
even_bins = torch.linspace(-20, 20, 255)  # the version of 2023
LOSSES = {
    "squared error": (1, lambda out, r: (out[:, 0] - r) ** 2, lambda out: out[:, 0]),
    "squared error of symlogs": (
        1,
        lambda out, r: (out[:, 0] - symlog(r)) ** 2,
        lambda out: symexp(out[:, 0]),
    ),
    "two-hot, 2023": (
        255,
        lambda out, r: two_hot_loss(out, symlog(r), even_bins),
        lambda out: symexp(two_hot_mean(out, even_bins)),
    ),
    "two-hot": (
        255,
        lambda out, r: two_hot_loss(out, r, bins),
        lambda out: two_hot_mean(out, bins),
    ),
}


# %%
def batch_of_purses(n):
    game, u, luck = torch.randint(3, (n,)), torch.rand(n), torch.randint(2, (n,))
    reward = torch.tensor([0.001, 1.0, 1000.0])[game] * u
    inputs = torch.cat([nn.functional.one_hot(game, 3).float(), u[:, None]], 1)
    return inputs, game, reward * luck, reward / 2  # what was paid, and what it is worth


def train_net(kind, seed, updates):
    outputs, loss_of, _ = LOSSES[kind]
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, outputs)
    )
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(updates):
        adam.param_groups[0]["lr"] = 1e-2 * (1 - step / updates)
        inputs, _, paid, _ = batch_of_purses(256)
        loss = loss_of(net(inputs), paid).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return net


def said_over_worth(kind, net):
    """Mean prediction over mean worth, for each game: 1 is right."""
    inputs, game, _, worth = batch_of_purses(4000)
    said = LOSSES[kind][2](net(inputs)).detach()
    return [(said[game == i].mean() / worth[game == i].mean()).item() for i in range(3)]


# %%
updates = budget(full=1500, ci=1500)
nets = {kind: [train_net(kind, seed, updates) for seed in range(3)] for kind in LOSSES}
learned = {
    kind: np.array([said_over_worth(kind, net) for net in three]) for kind, three in nets.items()
}
print(f"{'said / worth':<25}      0.001            1         1000      (the worst of three seeds)")
for kind, shares in learned.items():
    worst = [column[np.abs(column - 1).argmax()] for column in shares.T]
    print(f"{kind:<24}", "  ".join(f"{v:11.3f}" for v in worst))

# %% [markdown]
# Read it column by column.
#
# * **1000**: squared error and today's two-hot say what the chance is worth. Both ways through symlog say a thirteenth of
#   it: they average in the wrong space.
# * **1**: the squared error has drowned in the large game, and says far too little. The symlog ways are near.
#   Today's two-hot is about a third too high. Why?
# * **0.001**: nobody gets it. Next to games that pay a million times as much it is noise.
#
# *Predict: how much probability has to stray to a bin at 100 to make a prediction of 0.25 a third too high?*

# %%
inputs, game, _, worth = batch_of_purses(4000)
p = (
    torch.softmax(nets["two-hot"][0](inputs[game == 1]), -1).detach().mean(0)
)  # (255,) for the game that pays 1
for name, these in {
    "below -1.2": bins < -1.2,
    "-1.2 to 1.2": bins.abs() <= 1.2,
    "above 1.2": bins > 1.2,
}.items():
    part = (p * bins)[these].sum()
    print(f"bins {name:<12}   probability {p[these].sum():.1e}   adds {part:8.4f} to the mean")
print("worth", round(worth[game == 1].mean().item(), 4))

# %% [markdown]
# A third of 0.25 is 0.083, and at 100 that takes a probability of 0.0008: next to nothing, but far bins count by their
# size, on either side of 0. So today's two-hot is the only one of the four that comes near on both larger games at once,
# chance included, and stray probability is its price. It fades as training goes on (with 5,000 updates, tried on two
# seeds: 1.14 and 1.05), and a world with one kind of reward has little of it.
#
# *Predict: all logits start equal. Training has to push down that of the outermost bin, at 485 million, until it adds no
# more than 0.001 to the mean. How far below the logit of the right bin is that?*

# %%
share = 0.001 / bins[-1]  # the most probability that it may keep
print(
    f"probability below {share:.0e}, so a logit at least {-share.log():.1f} below that of the right bin"
)

# %% [markdown]
# That takes many updates. Meanwhile the errors of the two ends nearly cancel; where one end falls faster than the other
# they do not, and a value of 0.1 is lost in an error that a value of 100 would not notice.
#
# > **Where this course differs from the official code.** The preset `cpu` gives the far bins a head start: its logits
# > begin at $-\tfrac{1}{2}\,|y_i|$ instead of 0 (`bin_slope`), and still the first prediction is 0.

# %%
figure = plots.new_figure(7.0, 2.8)
axes = plots.tidy(figure.subplots(), "said / worth; 1 is right", "", "")
for i, (kind, shares) in enumerate(learned.items()):
    for game in (1, 2):
        places = np.full(3, game + 0.18 * (i - 1.5))
        axes.plot(
            places, shares[:, game], "o", color=plots.COLOURS[i], label=kind if game == 1 else None
        )
axes.axhline(1.0, color="0.4", linewidth=0.8, linestyle="--")
axes.set(xticks=[1, 2], xticklabels=["game that pays 1", "game that pays 1000"], xlim=(0.5, 3.2))
axes.legend(fontsize=8, frameon=False, loc="center right")
plots.Picture(
    figure,
    "Dots for three seeds of four losses. On the game that pays 1 the squared error lies far below 1, the others near "
    "it, two-hot a third above. On the game that pays 1000 squared error and two-hot lie at 1, the two that average in "
    "symlog space near 0.1.",
)

# %% tags=["nbval-check-output"]
claims(
    {
        "two-hot says what 1000 with a chance is worth, every seed within a tenth": bool(
            (np.abs(learned["two-hot"][:, 2] - 1) < 0.1).all()
        ),
        "averaging in symlog space says less than a fifth of it": bool(
            (learned["squared error of symlogs"][:, 2] < 0.2).all()
            and (learned["two-hot, 2023"][:, 2] < 0.2).all()
        ),
        "two-hot is within a factor of two on the game that pays 1": bool(
            ((learned["two-hot"][:, 1] > 0.5) & (learned["two-hot"][:, 1] < 2)).all()
        ),
        "the squared error misses the game that pays 1 by more than a third on some seed": bool(
            (np.abs(learned["squared error"][:, 1] - 1) > 1 / 3).any()
        ),
    }
)

# %% [markdown]
# ## Go further
#
# Where does the stray probability sit? Train `two-hot` once more, keep the network, and plot the mean probabilities of
# the game that pays 1 over the bins, on a logarithmic axis. Then weight them by the bins. Which ten bins carry the error?
# How does it change with 63 bins, which is what the preset `cpu` of this course uses?
#
# ## What you have built

# %%
scoreboard("02")

# %%
show_solution("two_hot_encoding")

# %% [markdown]
# * `symexp_bins`: 255 numbers, dense near 0, reaching to 485 million, an exact mirror image of themselves.
# * `two_hot_encoding`: any number as two neighbouring weights whose mean it is.
# * `two_hot_loss`: cross-entropy. Its gradient is probabilities minus encoding, at any size.
# * `two_hot_mean`: the mean, with large bins cancelled first.
#
# **Three questions**
#
# <details><summary>1. A target lies exactly on a bin. What is its encoding, and is it still "two"-hot?</summary>One entry
# is 1, all others 0. The upper neighbour's weight is 0.</details>
# <details><summary>2. Why may the networks of reward and critic keep their learning rate when rewards are multiplied by
# 1000?</summary>The gradient of the logits is probabilities minus encoding, between -1 and 1 for every entry. Other bins
# are addressed, with the same force.</details>
# <details><summary>3. In which situation do the two-hot of 2023 and that of today give the same number, and in which do they
# part?</summary>The same when the target is certain, or small against 1. They part when large and small outcomes are mixed by
# chance: the mean of symlogs is not the symlog of the mean.</details>
#
# **In the paper**: equations 9 and 10 and the section on critic learning in *Mastering diverse control tasks through
# world models* (Nature 640, 2025); for the older version, arXiv 2301.04104v1. **Before this**: lesson 01, symlog.
# **Next**: lesson 03, discrete latents, is not written yet; until then lesson 09, a whole training.
