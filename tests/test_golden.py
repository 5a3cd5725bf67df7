"""The package against numbers that the official code computed: one test a file and a form, readable and accelerated.

    pytest tests/test_golden.py --golden DIR

Every check runs the package's own functions and modules, filled with the file's parameters. Sizes and
settings are read from the file, so another set of the same format can be held against the same code. Layouts,
tolerances and what each file holds stand in tests/golden/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn

from dreamer_helpers import actor_critic, agent, fast, replay, symlog, variants, world_model
from dreamer_helpers.actor_critic import Actor, Critic, Dream, ReturnNormalizer, compute_returns
from dreamer_helpers.config import Config, preset
from dreamer_helpers.distributions import BoundedNormal, OneHot, straight_through
from dreamer_helpers.nets import MLP, BlockLinear, ContinueHead, Head, Linear, RMSNorm, TwoHotHead
from dreamer_helpers.optim import LaProp, clip_adaptively_
from dreamer_helpers.world_model import RSSM, State, WorldModel, kl_loss
from helpers import FORMS, GOLDEN_FILES, GoldenFile, GoldenFolder

Check = Callable[[GoldenFile, GoldenFolder], None]
CHECKS: dict[str, Check] = {}

WITHOUT_COUNTERPART = {
    "bounded_normal": {"out/minent_each", "out/maxent_each"},  # official metrics only
    # a normaliser that the official code leaves switched off
    "retnorm": {f"out/meanstd/{name}" for name in ("offset", "scale", "final_corr")},
}  # fmt: skip
"""Results that nothing in the package computes. Everything else in a file must be compared."""


FORM = FORMS[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", GOLDEN_FILES)
def test_golden(name: str, form: str, golden: GoldenFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "FORM", form)
    file = golden.open(name)
    CHECKS[name](file, golden)
    assert file.unread <= WITHOUT_COUNTERPART.get(name, set()), f"not compared: {sorted(file.unread)}"
    golden.compared.add((name, form))


def formed(net: nn.Module) -> Any:
    """The net in the form that is compared."""
    return net if FORM == "readable" else fast.swap(net)


def check(function: Check) -> Check:
    """Enter ``check_NAME`` as the check of the file NAME.npz."""
    CHECKS[function.__name__.removeprefix("check_")] = function
    return function


# ------------------------------------------------------------------------------------- symlog and two-hot


@check
def check_symlog(file: GoldenFile, _: GoldenFolder) -> None:
    x, y = file["in/x"], file["in/y"]
    file.compare("symlog_x", symlog.symlog(x), atol=0)  # no absolute tolerance: small numbers must stay exact
    file.compare("symexp_y", symlog.symexp(y), atol=0)
    file.compare("roundtrip_x", symlog.symexp(symlog.symlog(x)), atol=0)


@check
def check_bins(file: GoldenFile, _: GoldenFolder) -> None:
    for name in file.names("out/bins"):
        ours = symlog.symexp_bins(int(name))
        file.compare(f"bins{name}", ours, atol=0)
        assert torch.equal(ours, -ours.flip(0)), f"{name} bins are not antisymmetric"


@check
def check_twohot(file: GoldenFile, _: GoldenFolder) -> None:
    logits, target, bins = file["in/logits"], file["in/target"], file["in/bins"]
    loss = symlog.two_hot_loss if FORM == "readable" else fast.two_hot_loss
    file.compare("twohot", symlog.two_hot_encoding(target, bins))
    file.compare_loss("loss", loss(logits, target, bins))
    compare_mean(file, "pred", symlog.two_hot_mean(logits, bins), logits, bins)


def compare_mean(file: GoldenFile, key: str, mean: Tensor, logits: Tensor, bins: Tensor) -> None:
    """Means over bins of 4.85e8 hold to a millionth of what is added up; of uniform logits they are 0."""
    file.compare(key, mean, atol=1e-6 * (logits.softmax(-1) * bins.abs()).sum(-1).double())
    uniform = (logits == logits[..., :1]).all(-1)
    assert (mean[uniform] == 0).all(), f"{key}: the mean of uniform logits is not exactly 0"


@check
def check_twohot_v1(file: GoldenFile, _: GoldenFolder) -> None:
    logits, target, bins = file["in/logits"], file["in/target"], file["in/bins"]
    head = formed(variants.SymlogTwoHotHead(1, 1, 1, bins=len(bins)))
    assert torch.allclose(head.bins, bins, atol=1e-5), "the bins of the head are not the official ones"
    file.compare("twohot", symlog.two_hot_encoding(symlog.symlog(target), head.bins))
    file.compare_loss("loss", head.loss(logits, target))
    file.compare("pred", head.mean(logits))
    assert head.mean(torch.zeros(len(bins))) == 0


# ------------------------------------------------------------------------------------------ distributions


@check
def check_onehot(file: GoldenFile, _: GoldenFolder) -> None:
    for unimix in (0.01, 0.0):
        logits = file["in/logits"].clone().requires_grad_()
        dist, other = OneHot(logits, unimix), OneHot(file["in/logits_q"], unimix)
        index = F.one_hot(file["in/index"].long(), logits.shape[-1]).float()
        sample = straight_through(index, dist.probs)
        (gradient,) = torch.autograd.grad((file["in/weight"] * sample).sum(), logits, retain_graph=True)
        file.compare(f"unimix{unimix}/probs", dist.probs)
        file.compare(f"unimix{unimix}/logits", dist.log_probs if unimix else dist.logits)
        file.compare(f"unimix{unimix}/st_sample", sample)
        file.compare_loss(f"unimix{unimix}/st_grad", gradient)
        drawn = OneHot(logits, unimix).sample()  # the gradient does not depend on what is drawn
        (gradient,) = torch.autograd.grad((file["in/weight"] * drawn).sum(), logits)
        file.compare_loss(f"unimix{unimix}/st_grad", gradient)
        file.compare(f"unimix{unimix}/mode", dist.mode())
        for name, each in ("entropy", dist.entropy()), ("kl", dist.kl(other)), ("logp", dist.log_prob(index)):
            file.compare_loss(f"unimix{unimix}/{name}_each", each)
            file.compare_loss(f"unimix{unimix}/{name}_sum", each.sum(-1))


@check
def check_kl_balance(file: GoldenFile, _: GoldenFolder) -> None:
    settings = file.settings
    posterior, prior = (file[f"in/{side}"].clone().requires_grad_() for side in ("post", "prior"))
    q, p = OneHot(posterior, settings["unimix"]), OneHot(prior, settings["unimix"])
    losses = kl_loss(q, p, settings["free_nats"])
    total = settings["dyn_scale"] * losses["dyn"].mean() + settings["rep_scale"] * losses["rep"].mean()
    gradients = torch.autograd.grad(total, (posterior, prior), retain_graph=True)
    every_nat = kl_loss(q, p, free_nats=0.0)
    file.compare_loss("dyn", losses["dyn"])
    file.compare_loss("rep", losses["rep"])
    file.compare_loss("kl_raw", every_nat["dyn"])
    file.compare_loss("kl_raw_rep", every_nat["rep"])
    file.compare_loss("total", total)
    file.compare_loss("grad_post", gradients[0])
    file.compare_loss("grad_prior", gradients[1])
    file.compare_loss("post_entropy_mean", q.entropy().sum(-1).mean())
    file.compare_loss("prior_entropy_mean", p.entropy().sum(-1).mean())


@check
def check_bounded_normal(file: GoldenFile, _: GoldenFolder) -> None:
    x, action, low, high = file["in/x"], file["in/event"], file.settings["minstd"], file.settings["maxstd"]
    mean, std = (Linear(x.shape[-1], action.shape[-1]) for _ in range(2))
    file.fill({mean: "mean", std: "stddev"})
    policy = BoundedNormal(torch.cat([mean(x), std(x)], -1), low, high)
    file.compare("mean", policy.mean)
    file.compare("std", policy.std)
    file.compare("pred", policy.mode())
    file.compare_loss("logp", policy.log_prob(action))
    file.compare_loss("entropy", policy.entropy())
    columns = zip(mean(x).split(1, -1), std(x).split(1, -1), strict=True)
    each = [BoundedNormal(torch.cat(column, -1), low, high) for column in columns]
    file.compare_loss(
        "logp_each", torch.stack([p.log_prob(a) for p, a in zip(each, action.split(1, -1), strict=True)], -1)
    )
    file.compare_loss("entropy_each", torch.stack([p.entropy() for p in each], -1))


# --------------------------------------------------------------------------------------------------- nets


def compare_layer(file: GoldenFile, layer: nn.Module) -> None:
    layer = formed(layer)
    file.fill({layer: ""})
    file.compare("y", layer(file["in/x"]))


@check
def check_linear(file: GoldenFile, _: GoldenFolder) -> None:
    compare_layer(file, Linear(*file["param/kernel"].shape))


@check
def check_blocklinear(file: GoldenFile, _: GoldenFolder) -> None:
    blocks, inputs, outputs = file["param/kernel"].shape
    compare_layer(file, BlockLinear(blocks * inputs, blocks * outputs, blocks))


@check
def check_rmsnorm(file: GoldenFile, _: GoldenFolder) -> None:
    compare_layer(file, RMSNorm(len(file["param/scale"])))


@check
def check_layernorm(file: GoldenFile, _: GoldenFolder) -> None:
    compare_layer(file, variants.LayerNorm(len(file["param/scale"]), eps=1e-4))


def mlp_paths(mlp: MLP, layer: str, norm: str) -> dict[nn.Module, str]:
    """Where the parameters of an MLP stand, given patterns for its layers' names."""
    paths = {}
    for i, (linear, normalization, _) in enumerate(mlp):
        paths |= {linear: layer.format(i), normalization: norm.format(i)}
    return paths


@check
def check_heads(file: GoldenFile, _: GoldenFolder) -> None:
    features, bins, settings = file["in/feat"], file["in/bins41"], file.settings
    size = {"inputs": features.shape[-1], "units": settings["units"]}
    for name in ("reward", "value"):
        head = formed(TwoHotHead(**size, layers=settings[f"{name}_layers"], bins=len(bins)))
        if name == "reward":  # as initialised, it says exactly 0
            assert (head.mean(head(features)) == 0).all() and (file[f"out/{name}_pred_at_official_init"] == 0).all()
        assert torch.allclose(head.bins, bins), "the bins of the head are not the official ones"
        fill_head(file, head, name, "head/logits")
        logits = head(features)
        file.compare(f"{name}/logits", logits)
        file.compare_loss(f"{name}/loss", head.loss(logits, file["in/reward_target"]))
        compare_mean(file, f"{name}/pred", head.mean(logits), logits, head.bins)
    compare_continue_head(file, formed(ContinueHead(**size, layers=settings["con_layers"])))
    compare_vector_head(file)


def fill_head(file: GoldenFile, head: Head, path: str, output: str) -> None:
    mlp, linear = head
    file.fill({**mlp_paths(mlp, f"{path}/mlp/linear{{}}", f"{path}/mlp/norm{{}}"), linear: f"{path}/{output}"})


def compare_continue_head(file: GoldenFile, head: ContinueHead) -> None:
    fill_head(file, head, "con", "head/logit")
    logits = head(file["in/feat"])
    file.compare("con/logits", logits[..., 0])
    file.compare("con/prob1", head.mean(logits))
    file.compare("con/pred", head.mean(logits) > 0.5)
    # The file gives the target itself, our head makes it from is_terminal: undo that.
    file.compare_loss("con/loss", head.loss(logits, 1 - file["in/con_target"] / head.gamma))


def compare_vector_head(file: GoldenFile) -> None:
    """The vector head of the file is a linear layer; ours predict one number each."""
    features, target = file["in/feat"], file["in/vec_target"]
    heads = [variants.SymlogMSEHead(features.shape[-1], features.shape[-1], layers=0) for _ in target.unbind(-1)]
    kernel, bias = file["param/vec/vec/pred/kernel"], file["param/vec/vec/pred/bias"]
    logits = []
    for head, column, shift in zip(heads, kernel.unbind(1), bias, strict=True):
        head[1].load_state_dict({"weight": column[None], "bias": shift[None]})
        logits.append(head(features))
    losses = [head.loss(out, x) for head, out, x in zip(heads, logits, target.unbind(-1), strict=True)]
    file.compare("vec/pred", torch.cat(logits, -1))
    file.compare_loss("vec/loss", torch.stack(losses, -1).sum(-1))


# -------------------------------------------------------------------------------------------- world model


def make_rssm(file: GoldenFile) -> RSSM:
    """An RSSM of the file's sizes with its parameters: those of rssm_step."""
    s = file.settings
    config = preset(
        rnn_hidden_dim=s["deter"], hidden_dim=s["hidden"],
        num_categoricals=s["stoch"], num_categories=s["classes"], blocks=s["blocks"],
        prior_layers=s["imglayers"], posterior_layers=s["obslayers"], unimix=s["unimix"],
    )  # fmt: skip
    rssm = formed(RSSM(config, file["in/tokens"].shape[-1], file["in/action"].shape[-1]))
    cell, (prior, prior_out), (posterior, posterior_out) = rssm.cell, rssm.prior_net, rssm.posterior_net
    file.fill({
        cell.from_deter[0]: "dynin0", cell.from_deter[1]: "dynin0norm",
        cell.from_stoch[0]: "dynin1", cell.from_stoch[1]: "dynin1norm",
        cell.from_action[0]: "dynin2", cell.from_action[1]: "dynin2norm",
        cell.hidden: "dynhid0", cell.norm: "dynhid0norm", cell.gates: "dyngru",
        **mlp_paths(prior, "prior{}", "prior{}norm"), prior_out: "priorlogit",
        **mlp_paths(posterior, "obs{}", "obs{}norm"), posterior_out: "obslogit",
    })  # fmt: skip
    return rssm


@contextmanager
def drawn(samples: Iterable[Tensor]) -> Iterator[None]:
    """Inside, the latents drawn are these, one after the other."""
    queue = iter(samples)
    with mock.patch.object(OneHot, "sample", lambda self, generator: next(queue)):
        yield


@check
def check_rssm_step(file: GoldenFile, _: GoldenFolder) -> None:
    rssm = make_rssm(file)
    deter, stoch, action = (file[f"in/{name}"].clone().requires_grad_() for name in ("deter", "stoch", "action"))
    following = rssm.cell(deter, stoch.flatten(1), action)
    gradients = torch.autograd.grad((file["in/W"] * following).sum(), (deter, stoch, action))
    file.compare("deter", following)
    file.compare("prior_logits", rssm.prior(following).logits)
    file.compare("post_logits", rssm.posterior(following, file["in/tokens"]).logits)
    for name, gradient in zip(("deter", "stoch", "action"), gradients, strict=True):
        file.compare_loss(f"grad_{name}", gradient)


@check
def check_rssm_observe(file: GoldenFile, golden: GoldenFolder) -> None:
    rssm = make_rssm(golden.open("rssm_step"))
    with drawn(file["in/sampled_stoch"].unbind(1)):
        states, posterior = rssm.observe(
            State(file["in/carry_deter"], file["in/carry_stoch"]), file["in/tokens"], file["in/prev_action"],
            file["in/is_first"],
        )  # fmt: skip
    file.compare("deter", states.deter)
    file.compare("post_logits", posterior.logits)
    file.compare("prior_logits", rssm.prior(states.deter).logits)


@check
def check_rssm_imagine(file: GoldenFile, golden: GoldenFolder) -> None:
    rssm = make_rssm(golden.open("rssm_step"))
    actions = file["in/action"].unbind(1)
    queue = iter([*actions, actions[-1]])  # we also act in the last state
    with drawn(file["in/sampled_stoch"].unbind(1)):
        start = State(file["in/carry_deter"], file["in/carry_stoch"])
        states, _ = rssm.imagine(start, lambda state: next(queue), len(actions))
    file.compare("deter", states.deter[:, 1:])
    file.compare("prior_logits", rssm.prior(states.deter[:, 1:]).logits)


def make_model(file: GoldenFile, classes: int, **sizes: int) -> WorldModel:
    """A world model for the file's observation: an image, a vector, a number of so many classes."""
    space = spaces.Dict({
        "image": spaces.Box(0, 255, file["in/image"].shape[2:], "uint8"),
        "vec": spaces.Box(-1, 1, file["in/vec"].shape[2:]),
        "kind": spaces.MultiDiscrete([classes]),
    })  # fmt: skip
    s = file.settings
    config = preset(
        hidden_dim=s["units"], mlp_layers=s["layers"], cnn_depth=s["depth"], cnn_mults=tuple(s["mults"]),
        cnn_kernel=s["kernel"], **sizes,
    )  # fmt: skip
    return formed(WorldModel(config, space, action_dim=1))


def observation(file: GoldenFile) -> dict[str, Tensor]:
    return {"image": file["in/image"], "vec": file["in/vec"], "kind": file["in/kind"][..., None]}


@check
def check_encoder(file: GoldenFile, _: GoldenFolder) -> None:
    classes = len(file["param/mlp0/kernel"]) - file["in/vec"].shape[-1]
    model = make_model(file, classes, rnn_hidden_dim=8, num_categoricals=1, num_categories=2)
    convolutions, norms, _ = (model.encoder.cnn.stages[i::3] for i in range(3))
    paths = mlp_paths(model.encoder.mlp, "mlp{}", "mlp{}norm")
    for i, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        paths |= {convolution[0]: f"cnn{i}", norm.norm: f"cnn{i}norm"}
    file.fill(paths)
    file.compare("tokens", model.encode(observation(file)))


@check
def check_decoder(file: GoldenFile, _: GoldenFolder) -> None:
    deter, stoch = file["in/deter"], file["in/stoch"]
    model = make_model(
        file, file["param/vec/kind/logits/bias"].shape[0], rnn_hidden_dim=deter.shape[-1],
        num_categoricals=stoch.shape[-2], num_categories=stoch.shape[-1], blocks=file.settings["bspace"],
    )  # fmt: skip
    fill_decoder(file, model.decoder)
    state = State(deter, stoch)
    decoded, losses = model.decode(state), model.reconstruction_losses(state, observation(file))
    file.compare("image/pred", decoded["image"])
    file.compare("vec/pred", symlog.symlog(decoded["vec"]))  # the official prediction stays in symlog space
    file.compare("kind/pred", decoded["kind"][..., 0])
    for key in ("image", "vec", "kind"):
        file.compare_loss(f"{key}/loss", losses[key])


def fill_decoder(file: GoldenFile, decoder: world_model.Decoder) -> None:
    cnn, outputs = decoder.cnn, dict(zip(decoder.keys, decoder.outputs, strict=True))
    paths = mlp_paths(decoder.mlp, "mlp/linear{}", "mlp/norm{}")
    paths |= {outputs["vec"]: "vec/vec/pred", outputs["kind"]: "vec/kind/logits"}
    (first, norm, _), out = cnn.from_stoch
    start, _, *stages, last = cnn.stages
    paths |= {cnn.from_deter: "sp0", first: "sp1", norm: "sp1norm", out: "sp2", start.norm: "spnorm"}
    for i, (convolution, norm) in enumerate(zip(stages[::3], stages[1::3], strict=True)):
        paths |= {convolution[1]: f"conv{i}", norm.norm: f"conv{i}norm"}
    file.fill({**paths, last[1]: "imgout"})


# --------------------------------------------------------------------------------------- actor and critic


@check
def check_lambda_return(file: GoldenFile, _: GoldenFolder) -> None:
    rewards, values, bootstrap = file["in/rew"], file["in/val"], file["in/boot"]
    settings = file.settings["replay"]
    continues = settings["disc"] * (1 - file["in/term"])
    returns = compute_returns(rewards, values, continues, settings["lam"], last=file["in/last"], bootstrap=bootstrap)
    file.compare("ret_replay", returns)
    settings = file.settings["imag"]
    continues = settings["disc"] * (1 - file["in/term_soft"])
    file.compare("ret_imag", compute_returns(rewards, values, continues, settings["lam"]))


@check
def check_retnorm(file: GoldenFile, _: GoldenFolder) -> None:
    normalizer = ReturnNormalizer(5.0, 95.0, file.settings["rate"], file.settings["limit"])
    instant = ReturnNormalizer(5.0, 95.0, rate=1.0)  # follows at once: the percentiles of each batch
    moments = variants.StdNormalizer(rate=file.settings["rate"])
    debiased = variants.DebiasedNormalizer(5.0, 95.0, file.settings["rate"], file.settings["limit"])
    rows = []
    for batch in file["in/batches"]:
        scale, _, _, corrected = normalizer(batch), instant(batch), moments(batch), debiased(batch)
        offset = debiased.low / debiased.weight
        rows.append(torch.stack([scale, normalizer.low, instant.low, instant.high, corrected, offset]))
    names = ("perc/scale", "perc/offset", "p5", "p95", "perc_debias/scale", "perc_debias/offset")
    for name, column in zip(names, torch.stack(rows, 1), strict=True):
        file.compare(name, column)
    for name, running in (("perc", normalizer), ("perc_debias", debiased)):
        file.compare(f"{name}/final_lo", running.low)
        file.compare(f"{name}/final_hi", running.high)
    file.compare("perc_debias/final_corr", debiased.weight)
    file.compare("meanstd/final_mean", moments.low)
    file.compare("meanstd/final_sqrs", moments.high)


class Columns(nn.Module):
    """Stands in for the net of a policy: some columns of its input, where the logits already are."""

    def __init__(self, columns: slice):
        super().__init__()
        self.columns = columns

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.columns]


class ColumnsHead(TwoHotHead):
    """A value head whose net is :class:`Columns`, with the bins of a file."""

    def __init__(self, columns: slice, bins: Tensor):
        super().__init__(1, 1, 1, bins=len(bins))
        self.columns, self.bins = columns, bins

    def forward(self, x: Tensor) -> Tensor:
        return x[..., self.columns]


def make_critic(config: Config, bins: Tensor, start: int) -> Critic:
    """A critic that finds its logits in the columns from ``start`` on, and then those of its slow copy."""
    critic = Critic(config, 1)
    middle = start + len(bins)
    critic.head, critic.slow = (ColumnsHead(slice(i, i + len(bins)), bins) for i in (start, middle))
    return formed(critic)


def behaviour_config(settings: dict, **more: float) -> Config:
    return preset(
        hidden_dim=1, rnn_hidden_dim=8, gamma=1 - 1 / settings["horizon"], lambda_=settings["lam"],
        slow_critic_coef=settings["slowreg"], **more,
    )  # fmt: skip


def compare_imagination(file: GoldenFile, discrete: bool, sizes: tuple[int, ...], unimix: float, path: str) -> None:
    """Two calls of the imagination losses; the range of returns goes on from one to the other."""
    s, bins = file.settings, file["in/bins"]
    config = behaviour_config(s, entropy_coef=s["actent"], min_std=s["minstd"], max_std=s["maxstd"], unimix=unimix)
    normalizer = ReturnNormalizer(*map(float, s["retnorm"]["perc"]), s["retnorm"]["rate"], s["retnorm"]["limit"])
    for call in (0, 1):
        policy = file[f"in/policy{call}"]
        width = policy.shape[-1]
        actor, critic = Actor(config, 1, discrete, sizes), make_critic(config, bins, width)
        actor.net = Columns(slice(0, width))
        parts = [policy, file[f"in/value_logits{call}"], file[f"in/slow_logits{call}"]]
        features = torch.cat(parts, -1).requires_grad_()
        actions = file[f"in/act{call}"]
        actions = F.one_hot(actions.long(), width).float() if discrete else actions
        dream = make_dream(features, actions, file[f"in/rew{call}"], file[f"in/con{call}"])
        compare_call(file, path.format(call), dream, features, actor, critic, normalizer, config)


def make_dream(features: Tensor, actions: Tensor, rewards: Tensor, continues: Tensor) -> Dream | fast.KeptDream:
    if FORM == "readable":
        return Dream(features, actions, rewards, continues)
    return fast.KeptDream(features[:, :-1], features[:, -1], actions[:, :-1], rewards, continues, None, None)


def compare_call(
    file: GoldenFile, path: str, dream: Dream | fast.KeptDream, features: Tensor, actor: Actor, critic: Critic,
    normalizer: nn.Module, config: Config,
) -> None:  # fmt: skip
    actor_spy, returns_spy = mock.Mock(wraps=actor_critic.actor_loss), mock.Mock(wraps=compute_returns)
    imagination_losses = (actor_critic if FORM == "readable" else fast).imagination_losses
    losses, returns, metrics = imagination_losses(
        dream, actor, critic, normalizer, config, actor_loss=actor_spy, critic_loss=actor_critic.critic_loss,
        compute_returns=returns_spy,
    )  # fmt: skip
    _, _, _, baseline, scale, _, _ = actor_spy.call_args.args
    (gradient,) = torch.autograd.grad(losses["actor"].mean() + losses["critic"].mean(), features)
    width, bins = sum(actor.sizes) * (1 if actor.discrete else 2), len(critic.head.bins)
    file.compare_loss(f"{path}/policy_loss", losses["actor"])
    file.compare_loss(f"{path}/grad_policy", gradient[..., :width])
    if f"out/{path}/value_loss" in file.arrays:  # written once, as it does not depend on unimix
        file.compare_loss(f"{path}/value_loss", losses["critic"])
        file.compare_loss(f"{path}/grad_value_logits", gradient[..., width : width + bins])
        file.compare(f"{path}/ret", returns)
    assert (gradient[..., width + bins :] == 0).all(), "the slow critic got a gradient"
    file.compare(f"{path}/retnorm_lo", normalizer.low)
    file.compare(f"{path}/retnorm_hi", normalizer.high)
    file.compare(f"{path}/metric_adv", ((returns - baseline) / scale).mean())
    file.compare(f"{path}/metric_weight", dream.continues.cumprod(1).mean())
    file.compare(f"{path}/metric_ent", metrics["entropy"])
    file.compare(f"{path}/metric_val", returns_spy.call_args.args[1].mean())


@check
def check_imag_loss_disc(file: GoldenFile, _: GoldenFolder) -> None:
    for unimix in (0.0, 0.01):
        sizes = (file["in/policy0"].shape[-1],)
        compare_imagination(file, True, sizes, unimix, f"step{{}}/unimix{unimix}")


@check
def check_imag_loss_cont(file: GoldenFile, _: GoldenFolder) -> None:
    compare_imagination(file, False, (file["in/act0"].shape[-1],), 0.0, "step{}")


@check
def check_repl_loss(file: GoldenFile, _: GoldenFolder) -> None:
    s, logits = file.settings, file["in/value_logits"].clone().requires_grad_()
    config = behaviour_config(s)
    critic = make_critic(config, file["in/bins"], 0)
    returns_spy = []

    def spy(*args: Tensor, **options: Tensor) -> Tensor:
        returns_spy.append(compute_returns(*args, **options))
        return returns_spy[-1]

    loss = actor_critic.replay_critic_loss(
        critic, logits, critic.slow.mean(file["in/slow_logits"]),
        file["in/rew"], file["in/term"], file["in/last"], file["in/boot"],
        config.gamma, config.lambda_, config.slow_critic_coef, compute_returns=spy,
    )  # fmt: skip
    file.compare_loss("repval", loss)
    file.compare("ret", returns_spy[0])
    file.compare_loss("grad_value_logits", torch.autograd.grad(loss.mean(), logits)[0])
    assert Config().replay_critic_coef == s["loss_scale_in_agent"]


@check
def check_slow_ema(file: GoldenFile, _: GoldenFolder) -> None:
    outputs, inputs = file["in/initial_slow"].shape
    critic = Critic(preset(hidden_dim=1, slow_rate=file.settings["rate"]), 1)
    critic.head, critic.slow = (nn.Linear(inputs, outputs, bias=False) for _ in range(2))
    critic.slow.load_state_dict({"weight": file["in/initial_slow"]})
    course = []
    for source in file["in/source"]:
        critic.head.load_state_dict({"weight": source})
        critic.update_slow()
        course.append(critic.slow.weight.detach().clone())
    file.compare("slow", torch.stack(course))


# ---------------------------------------------------------------------------------- optimiser and replay


def descend(file: GoldenFile, optimizer_settings: dict, dtype: torch.dtype) -> tuple[dict, dict]:
    """Follow the file's gradients: updates and parameters after each, by name, each (updates, ...)."""
    names = file.names("in/init/")
    params = {name: nn.Parameter(file[f"in/init/{name}"].to(dtype, copy=True)) for name in names}
    optimizer = LaProp(params.values(), **optimizer_settings)
    updates, course = {name: [] for name in names}, {name: [] for name in names}
    for i in range(len(file[f"in/grads/{names[0]}"])):
        before = {name: p.detach().clone() for name, p in params.items()}
        for name, p in params.items():
            p.grad = file[f"in/grads/{name}"][i].to(dtype, copy=True)
        optimizer.step()
        for name, p in params.items():
            updates[name].append(p.detach() - before[name])
            course[name].append(p.detach().clone())
    return {k: torch.stack(v) for k, v in updates.items()}, {k: torch.stack(v) for k, v in course.items()}


@check
def check_optimizer(file: GoldenFile, _: GoldenFolder) -> None:
    official = file.settings["official"]
    for name, settings in file.settings.items():
        s = {**official, **settings}
        ours = {k: s[k] for k in ("lr", "beta1", "beta2", "eps", "warmup")} | {"clip": s["agc"]}
        _, course = descend(file, ours, torch.float32)
        updates, _ = descend(file, ours, torch.float64)  # differences of float32 parameters would be all rounding
        for key, update in updates.items():
            file.compare(f"{name}/updates/{key}", update, atol=1e-5 * update.abs().max())
            whole = f"out/{name}/params/{key}" in file.arrays
            file.compare(
                f"{name}/{'params' if whole else 'final_params'}/{key}",
                course[key][slice(None) if whole else -1],
            )
    compare_clipping(file, official["agc"])


def compare_clipping(file: GoldenFile, clip: float) -> None:
    for key in file.names("out/agc_only_at_initial_params/"):
        clipped = file[f"in/grads/{key}"][: len(file[f"out/agc_only_at_initial_params/{key}"])].clone()
        for gradient in clipped:  # views: clipped in place
            clip_adaptively_([file[f"in/init/{key}"]], [gradient], clip)
        file.compare_loss(f"agc_only_at_initial_params/{key}", clipped)


@check
def check_replay_semantics(file: GoldenFile, _: GoldenFolder) -> None:
    s = file.settings
    is_first, is_last = replay.annotate(file["in/is_first"].numpy(), file["in/is_last"].numpy())
    file.compare("is_first", torch.as_tensor(is_first))
    file.compare("is_last", torch.as_tensor(is_last))
    compare_context(file, torch.as_tensor(is_first))
    ratio = replay.Ratio(s["train_ratio"], s["batch_size"] * s["batch_length"])
    file.compare("ratio_updates", torch.tensor([ratio(steps) for steps in file["in/ratio_steps"].tolist()]))


def compare_context(file: GoldenFile, is_first: Tensor) -> None:
    action, stoch = file["in/action"], file["in/stored_stoch"]
    classes = stoch.shape[-1]
    batch = {  # we store the class of each latent, the file any numbers: take the class of the largest
        "is_first": is_first, "action": action, "deter": file["in/stored_deter"], "stoch": stoch.argmax(-1)
    }  # fmt: skip
    carry, steps = agent.split_context(batch, classes)
    file.compare("context1_carry_deter", carry.deter)
    assert torch.equal(carry.stoch, F.one_hot(file["out/context1_carry_stoch"].argmax(-1), classes).float())
    file.compare("context1_prevact", steps["prev_action"])
    file.compare("context1_is_first", steps["is_first"])
    # With the action carried along as a step in front, this is what the official code does without context.
    longer = {key: torch.cat([value[:, :1], value], 1) for key, value in batch.items()}
    longer["action"] = torch.cat([file["in/carry_prevact"][:, None], action], 1)
    file.compare("prevact_without_context", agent.split_context(longer, classes)[1]["prev_action"])
