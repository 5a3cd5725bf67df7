"""Every twin of ``fast.py`` equals the readable form, and readable forms equal their formulas written another way."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from dreamer_helpers import fast, nets, symlog, variants
from dreamer_helpers.actor_critic import (
    Critic,
    ReturnNormalizer,
    compute_returns,
    percentile_normalize,
    return_scale,
)
from dreamer_helpers.agent import DreamerV3
from dreamer_helpers.config import preset
from dreamer_helpers.distributions import BoundedNormal, DiscretePolicy, OneHot
from dreamer_helpers.nets import BlockLinear, ContinueHead, RMSNorm, TwoHotHead
from dreamer_helpers.optim import LaProp, clip_adaptively_
from dreamer_helpers.parts import FollowedScale, Parts
from dreamer_helpers.variants import DenseGRU, LayerNorm, TanhNormal
from dreamer_helpers.world_model import RSSM, BlockGRU, State, WorldModel, total_loss
from helpers import Bare, height_of, make_batch, slow

SMALL = preset(
    rnn_hidden_dim=16, hidden_dim=8, num_categoricals=3, num_categories=4, blocks=2, mlp_layers=1,
    num_bins=15,
)  # fmt: skip


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# -------------------------------------------------------------------------------------------- two-hot


def targets(bins: Tensor) -> Tensor:
    """Numbers between bins, on bins, beyond the outermost ones, and very near 0."""
    between = torch.lerp(bins[:-1], bins[1:], torch.rand(len(bins) - 1))
    return torch.cat([between, bins, 2 * bins[[0, -1]], torch.tensor([0.0, 1e-6, -1e-6, 0.5])])


@pytest.mark.parametrize("count", [2, 15, 16, 255])
def test_two_gathered_bins_are_the_cross_entropy_with_the_dense_encoding(count: int) -> None:
    bins = symlog.symexp_bins(count)
    x = targets(bins)
    logits = torch.randn(len(x), count, requires_grad=True)
    gathered, dense = fast.two_hot_loss(logits, x, bins), symlog.two_hot_loss(logits, x, bins)
    assert_close(gathered, dense)
    weights = torch.randn(len(x))
    assert_close(*(torch.autograd.grad((loss * weights).sum(), logits)[0] for loss in (gathered, dense)))


def test_a_target_that_is_no_number_makes_a_loss_that_is_none() -> None:
    """Or a fault in rewards or returns would quietly become a pull to the outermost bin."""
    bins, x = symlog.symexp_bins(15), torch.tensor([math.nan, 1.0, math.inf])
    for loss in (symlog.two_hot_loss, fast.two_hot_loss):
        assert loss(torch.zeros(3, 15), x, bins).isnan().tolist() == [True, False, False]
    assert symlog.two_hot_encoding(x, bins).isnan().any(-1).tolist() == [True, False, False]


def test_both_two_hot_heads_begin_with_far_bins_as_low() -> None:
    heads = TwoHotHead(3, 4, 1), variants.SymlogTwoHotHead(3, 4, 1)
    for head in heads:
        head.lower_far_bins(0.5)
        assert_close(head[1].bias[[0, 127, 254]], torch.tensor([-10.0, 0.0, -10.0]))
    assert_close(heads[0][1].bias, heads[1][1].bias)


@pytest.mark.parametrize("count", [15, 16, 255])
def test_two_hot_mean_inverts_the_encoding(count: int) -> None:
    bins = symlog.symexp_bins(count)
    x = targets(bins).clamp(bins[0], bins[-1])
    encoding = symlog.two_hot_encoding(x, bins)
    assert_close(encoding.sum(-1), torch.ones(len(x)))
    assert_close((encoding.double() * bins.double()).sum(-1).float(), x, rtol=1e-5, atol=1e-4)
    assert_close(symlog.two_hot_mean(encoding.log(), bins), x, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("count", [63, 64, 255])
def test_two_hot_mean_is_the_sum_in_double_precision(count: int) -> None:
    bins, logits = symlog.symexp_bins(count), 3 * torch.randn(50, count)
    terms = logits.double().softmax(-1) * bins.double()
    error = symlog.two_hot_mean(logits, bins) - terms.sum(-1)
    assert (error.abs() <= 1e-6 * terms.abs().sum(-1)).all()
    assert (symlog.two_hot_mean(torch.zeros(3, count), bins) == 0).all()


def test_only_the_packages_own_loss_has_a_twin() -> None:
    own = symlog.TwoHot()
    assert fast.faster(own) == own._replace(loss=fast.two_hot_loss)
    mine = own._replace(loss=lambda logits, target, bins: logits.sum(-1))
    assert fast.faster(mine) == mine


class Contracted(TorchDispatchMode):
    """Float32 arithmetic as a compiler makes it of a loop that may be contracted.

    A product that is added to something is not rounded before (fused multiply-add), and sums run in the given order.
    Products of float32 numbers are exact in float64, so a float64 tensor stands for a product not yet rounded.
    ``second`` says which of two products in one addition is rounded: the fused operation takes one.
    """

    def __init__(self, order: Callable[[int], Tensor], second: bool):
        super().__init__()
        self.order, self.second, self.fused = order, second, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name
        if name == "aten::mul":
            return func(*(x.float().double() for x in args))
        if name in ("aten::add", "aten::sub"):
            parts = list(args)
            if all(x.dtype == torch.float64 for x in parts):
                parts[self.second] = parts[self.second].float()
            self.fused += any(x.dtype == torch.float64 for x in parts)
            return func(*(x.double() for x in parts)).float()
        if name == "aten::sum":
            terms = args[0].double()
            self.fused += args[0].dtype == torch.float64
            total = torch.zeros(terms.shape[:-1])
            for i in self.order(terms.shape[-1]).tolist():
                total = (total.double() + terms[..., i]).float()
            return total
        assert name in MOVES, f"{name}: say how it is contracted"
        return func(*args, **(kwargs or {}))


MOVES = {"aten::slice", "aten::split_with_sizes", "aten::flip", "aten::_softmax", "aten::cat"}
ORDERS: dict[str, Callable[[int], Tensor]] = {
    "rising": torch.arange,
    "falling": lambda n: torch.arange(n).flip(0),
    "ends first": lambda n: torch.stack([torch.arange(n), torch.arange(n).flip(0)], 1).flatten()[:n],
    "at random": torch.randperm,
}


def mean_of_rounded_products(logits: Tensor, bins: Tensor) -> Tensor:
    """What is 0 for flat logits only if each product is rounded: mirrored products added first."""
    terms, half = torch.softmax(logits, -1) * bins, len(bins) // 2
    return terms[..., half : len(bins) - half].sum(-1) + (terms[..., :half].flip(-1) + terms[..., -half:]).sum(-1)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [2, 63, 64, 255])
def test_flat_logits_mean_exactly_zero_also_where_products_are_not_rounded(
    count: int, order: str, second: bool
) -> None:
    bins = symlog.symexp_bins(count)
    logits, random = torch.tensor([[0.0], [-7.3]]).expand(2, count), 3 * torch.randn(20, count)
    with Contracted(ORDERS[order], second) as mode:
        flat, got = symlog.two_hot_mean(logits, bins), symlog.two_hot_mean(random, bins)
    assert mode.fused
    assert (flat == 0).all()
    terms = random.double().softmax(-1) * bins.double()
    assert ((got - terms.sum(-1)).abs() <= 1e-5 * terms.abs().sum(-1)).all()


@pytest.mark.parametrize(("count", "wrong"), [(63, 0.085), (255, 0.176)])
def test_contraction_finds_a_mean_that_needs_rounded_products(count: int, wrong: float) -> None:
    logits, bins = torch.zeros(count), symlog.symexp_bins(count)
    assert mean_of_rounded_products(logits, bins) == 0
    with Contracted(torch.arange, False):
        got = mean_of_rounded_products(logits, bins)
    assert abs(got.item()) == pytest.approx(wrong, abs=1e-3)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_two_hot_mean_takes_bins_that_are_no_mirror_image(count: int) -> None:
    bins = torch.randn(count).mul(5).sort().values + 3
    logits = torch.randn(4, 3, count, requires_grad=True)
    plain = (logits.softmax(-1) * bins).sum(-1)
    assert_close(symlog.two_hot_mean(logits, bins), plain)
    weights = torch.randn(4, 3)
    means = (symlog.two_hot_mean(logits, bins), plain)
    assert_close(*(torch.autograd.grad((mean * weights).sum(), logits)[0] for mean in means))


# -------------------------------------------------------------------------------------- distributions


@pytest.mark.parametrize("unimix", [0.0, 0.01, 1.0])
def test_samples_come_as_often_as_they_should(unimix: float) -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5, -3.0], [60.0, -60.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 100.0]])
    dist, count = OneHot(logits.expand(20_000, 3, 5), unimix), 20_000
    samples = dist.sample(torch.Generator().manual_seed(0))
    assert torch.equal(samples.sum(-1), torch.ones(count, 3)) and set(samples.unique().tolist()) == {0.0, 1.0}
    probs = OneHot(logits, unimix).probs
    deviation = (probs * (1 - probs) / count).sqrt()
    assert ((samples.mean(0) - probs).abs() <= 5 * deviation + 1e-7).all()


def test_latents_are_drawn_independently() -> None:
    first, second = OneHot(torch.zeros(20_000, 2, 2), 0.0).sample()[..., 0].unbind(-1)
    assert abs((first * second).mean().item() - 0.25) < 0.02  # six deviations


def test_sample_and_mode_pass_the_gradient_of_the_probabilities() -> None:
    weights, logits = torch.randn(6, 4), torch.randn(6, 4, requires_grad=True)
    (wanted,) = torch.autograd.grad((weights * (0.99 * logits.softmax(-1) + 0.01 / 4)).sum(), logits)
    for draw in (OneHot.sample, OneHot.mode):
        (gradient,) = torch.autograd.grad((weights * draw(OneHot(logits))).sum(), logits)
        assert_close(gradient, wanted)


@pytest.mark.parametrize("unimix", [0.0, 0.01])
def test_one_hot_agrees_with_torch(unimix: float) -> None:
    a, b = OneHot(torch.randn(6, 4), unimix), OneHot(torch.randn(6, 4), unimix)
    theirs_a, theirs_b = (torch.distributions.OneHotCategorical(probs=dist.probs) for dist in (a, b))
    x = a.sample()
    assert_close(a.log_prob(x), theirs_a.log_prob(x))
    assert_close(a.entropy(), theirs_a.entropy())
    assert_close(a.kl(b), torch.distributions.kl_divergence(theirs_a, theirs_b))


def test_a_policy_over_two_components_is_two_policies() -> None:
    logits = torch.randn(6, 5)
    policy, parts = DiscretePolicy(logits, (2, 3)), [OneHot(logits[:, :2]), OneHot(logits[:, 2:])]
    action = policy.sample()
    assert torch.equal(action[:, :2].sum(-1), torch.ones(6)) and torch.equal(action[:, 2:].sum(-1), torch.ones(6))
    assert_close(policy.log_prob(action), parts[0].log_prob(action[:, :2]) + parts[1].log_prob(action[:, 2:]))
    assert_close(policy.entropy(), parts[0].entropy() + parts[1].entropy())
    assert torch.equal(policy.mode(), torch.cat([part.mode() for part in parts], -1))


def test_bounded_normal_agrees_with_torch() -> None:
    policy = BoundedNormal(3 * torch.randn(6, 4))
    theirs = torch.distributions.Independent(torch.distributions.Normal(policy.mean, policy.std), 1)
    action = policy.sample()
    assert_close(policy.log_prob(action), theirs.log_prob(action))
    assert_close(policy.entropy(), theirs.entropy())
    assert (policy.std > 0.1).all() and (policy.std < 1.0).all()


def test_tanh_normal_agrees_with_torch() -> None:
    policy = TanhNormal(torch.randn(1000, 4))
    normal = torch.distributions.Normal(policy.center.double(), policy.std.double())
    theirs = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform())
    action = policy.sample()
    assert_close(policy.log_prob(action).double(), theirs.log_prob(action.double()).sum(-1), rtol=1e-3, atol=1e-3)


def test_the_entropy_of_a_tanh_normal_is_the_mean_of_its_log_probability() -> None:
    policy = TanhNormal(torch.randn(20, 4))
    draws = torch.stack([-policy.log_prob(policy.sample()) for _ in range(4000)])
    deviation = draws.std(0) / len(draws) ** 0.5
    assert ((policy.entropy() - draws.mean(0)).abs() <= 5 * deviation).all()


# ------------------------------------------------------------------------------------------------ nets


def test_block_linear_is_a_linear_layer_with_a_block_diagonal_matrix() -> None:
    layer, x = BlockLinear(6, 9, blocks=3), torch.randn(5, 2, 6)
    nn.init.normal_(layer.bias)
    assert_close(layer(x), x @ torch.block_diag(*layer.weight) + layer.bias)


def test_norms_are_their_formulas() -> None:
    x, rms, layer = torch.randn(5, 6), RMSNorm(6), LayerNorm(6)
    for parameter in (rms.scale, layer.scale, layer.shift):
        nn.init.normal_(parameter)
    for _ in ("readable", "accelerated"):
        assert_close(rms(x), F.rms_norm(x, (6,), rms.scale, 1e-4))
        assert_close(rms(torch.zeros(6)), torch.zeros(6))
        centred = x - x.mean(-1, keepdim=True)
        normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt()
        assert_close(layer(x), normal * layer.scale + layer.shift)
        fast.swap(rms), fast.swap(layer)


def kept_bytes(work: Callable[[], Tensor]) -> int:
    """Bytes of all tensors that autograd keeps for the way back, those with the same memory counted once."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.data_ptr()] = x.numel() * x.element_size()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = work()
    assert result.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_and_silu_in_one_piece(kind: Callable[[int], nn.Module], dtype: torch.dtype) -> None:
    readable, x = kind(16), torch.randn(5, 3, 2, 16).to(dtype).requires_grad_()
    for parameter in readable.parameters():
        nn.init.normal_(parameter)
    norm = fast.swap(copy.deepcopy(readable))
    norm.load_state_dict(readable.state_dict())
    outputs = fast.norm_silu(norm, x), F.silu(readable(x))
    direction = torch.randn(outputs[0].shape).to(dtype)
    gradients = [
        torch.autograd.grad(y, [x, *each.parameters()], direction)
        for y, each in zip(outputs, (norm, readable), strict=True)
    ]
    rough = dict(rtol=0.05, atol=0.1) if dtype is torch.bfloat16 else dict(rtol=1e-4, atol=1e-5)
    assert_close(*outputs, **rough)
    assert_close(*gradients, **rough)
    with torch.no_grad():
        before = x.clone()
        assert_close(fast.norm_silu(norm, x), outputs[1], **rough)
        assert torch.equal(x, before)


class NormInputs(TorchDispatchMode):
    """Notes the precision of what each layer norm is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.dtype] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if "native_layer_norm" in str(function):
            self.seen.append(args[0].dtype)
        return function(*args, **(kwargs or {}))


def test_only_a_cpu_is_given_low_precision_beside_the_float32_weights_of_a_layer_norm() -> None:
    """Its kernels take both together; those of a GPU want one kind."""
    for device, wanted in (("cpu", torch.bfloat16), ("meta", torch.float32)):
        with torch.device(device):
            norm, x = fast.swap(LayerNorm(4)), torch.ones(2, 3, 3, 4, dtype=torch.bfloat16)
        x.requires_grad_()
        with NormInputs() as inputs:
            results = norm(x), fast.norm_silu(norm, x)
            results[1].sum().backward()
        assert len(inputs.seen) == 4 and set(inputs.seen) == {wanted}, device  # backwards it is computed again
        assert all(y.dtype == torch.bfloat16 for y in results)


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_norm_and_silu_in_one_piece_keep_less(kind: Callable[[int], nn.Module]) -> None:
    norm, x = fast.swap(kind(64)), torch.randn(2, 8, 8, 64, requires_grad=True)
    one, two = kept_bytes(lambda: fast.norm_silu(norm, x)), kept_bytes(lambda: F.silu(norm(x)))
    assert two - one > 0.9 * x.numel() * x.element_size()


def test_a_norm_of_a_learner_stays_as_it_is() -> None:
    layer, x = nets.Layer(3, 4, nn.LayerNorm), torch.randn(2, 3)
    before = layer(x)
    assert_close(fast.swap(layer)(x), before)
    assert type(layer[1]) is nn.LayerNorm


@pytest.mark.parametrize("convolution", ["pooled", "strided"])
def test_stages_are_their_modules_in_turn(convolution: str) -> None:
    encoder = nets.ConvEncoder((16, 16, 3), 4, (1, 2), 5, convolution, RMSNorm)
    x = torch.randn(2, 3, 16, 16)
    in_turn = encoder.stages(x)
    assert [type(module) for module in encoder.stages].count(nn.SiLU) == 2
    assert_close(fast.swap(encoder).stages(x), in_turn)


EVERYTHING = spaces.Dict({
    "image": spaces.Box(0, 255, (16, 16, 3), "uint8"), "vector": spaces.Box(-1, 1, (3,)), "kind": spaces.Discrete(4),
})  # fmt: skip


@pytest.mark.parametrize("actions", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))], ids=["discrete", "continuous"])
@pytest.mark.parametrize("name", ["default", "cpu", slow("card"), slow("v2023")])
def test_an_accelerated_agent_learns_what_a_readable_one_learns(name: str, actions: spaces.Space) -> None:
    """Three updates of each preset, cut in size: every loss, every gradient, and the random numbers used up."""
    settings = preset(name, **CUT, actor_init_scale=1.0, value_init_scale=1.0, warmup=0)
    readable, accelerated = (DreamerV3(settings, EVERYTHING, actions, seed=1) for _ in range(2))
    fast.accelerate(accelerated)
    batch = make_batch(settings, readable.observation_space, actions)
    for update in range(3):
        results = [agent.train_step(batch) for agent in (readable, accelerated)]
        assert_close(*results, rtol=1e-3, atol=1e-4)
        for (key, one), (_, other) in zip(*(each.named_parameters() for each in (readable, accelerated)), strict=True):
            assert (one.grad is None) == (other.grad is None), key
            if one.grad is not None:
                assert (one.grad - other.grad).norm() <= 1e-3 * one.grad.norm() + 1e-6, (update, key)
        accelerated.load_state_dict(readable.state_dict())  # or rounding grows from update to update
        accelerated.optimizer.load_state_dict(readable.optimizer.state_dict())
        assert torch.equal(readable.generator.get_state(), accelerated.generator.get_state())


CUT = dict(
    rnn_hidden_dim=16, hidden_dim=16, num_categoricals=3, num_categories=4, blocks=2, cnn_depth=4, batch_size=4,
    seq_len=6, num_bins=15, imagination_last=0, imagination_horizon=3,
)  # fmt: skip


@pytest.mark.parametrize("precision", ["float32", slow("bfloat16")])
def test_gradients_of_the_dream_may_come_first(precision: str) -> None:
    """One step with the dream's gradients computed before anything is decoded is one step of the sum of all losses."""
    actions, agents = spaces.Discrete(3), []
    for first in (True, False):
        agent = fast.accelerate(DreamerV3(SMALL, spaces.Box(-1, 1, (3,)), actions, precision=precision))
        if not first:
            agent.parts = dataclasses.replace(agent.parts, total_loss=lambda *arguments: total_loss(*arguments))
        batch = make_batch(agent.config, agent.observation_space, actions)
        agent.train_step(batch)
        agents.append(agent)
    for (name, one), (_, other) in zip(*(agent.named_parameters() for agent in agents), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:  # autocast adds the two gradients of a weight in bfloat16
            rough = 1e-5 if precision == "float32" else 0.02
            assert (one.grad - other.grad).norm() <= rough * other.grad.norm(), name


@pytest.mark.slow
def test_an_accelerated_agent_needs_memory_for_one_of_the_two_at_a_time() -> None:
    """What is kept at the height of a step is less than that of the dream and that of the model together."""
    settings = preset("cpu", rnn_hidden_dim=64, hidden_dim=64, batch_size=8, imagination_last=0)
    space, heights = spaces.Box(0, 255, (32, 32, 3), "uint8"), []
    for speed in ("readable", "fast"):
        agent = fast.accelerate(DreamerV3(settings, space, spaces.Discrete(2)), speed)
        batch = make_batch(settings, agent.observation_space, spaces.Discrete(2))
        agent.train_step(batch)
        heights.append(height_of(lambda agent=agent, batch=batch: agent.train_step(batch)))
    assert heights[1] < 0.8 * heights[0], heights


@pytest.mark.parametrize(
    "part", ["kl_loss", "cell", *map(slow, ("compute_returns", "observe", "two_hot_loss", "norm"))]
)
def test_a_part_of_a_learner_has_no_twin_and_is_used(part: str) -> None:
    """It learns as it does without acceleration, and it was called."""
    calls, own = [], getattr(Parts(), part)

    def watched(*arguments: Any, **settings: Any) -> Any:
        calls.append(part)
        return own(*arguments, **settings)

    mine = type("Mine", (own,), {"forward": watched_forward(own, calls)}) if isinstance(own, type) else watched
    agents, space = [], spaces.Box(-1, 1, (3,))
    for speed in ("readable", "fast"):
        parts = dataclasses.replace(Parts(), **{part: mine})
        agent = fast.accelerate(DreamerV3(SMALL, space, spaces.Discrete(3), parts), speed)
        calls.clear()
        agent.train_step(make_batch(SMALL, agent.observation_space, spaces.Discrete(3)))
        assert calls, speed
        agents.append([p.grad for p in agent.parameters() if p.grad is not None])
    assert_close(*agents, rtol=1e-3, atol=1e-5)


def watched_forward(own: type[nn.Module], calls: list[str]) -> Callable[..., Tensor]:
    """The forward of a class of modules, which leaves a note."""

    def forward(module: nn.Module, *inputs: Tensor) -> Tensor:
        calls.append(own.__name__)
        return own.forward(module, *inputs)

    return forward


def test_continue_loss_is_the_binary_cross_entropy_with_a_soft_target() -> None:
    head, logits = ContinueHead(1, 1, 1), torch.randn(2, 1)
    chance, target = head.mean(logits), torch.tensor([head.gamma, 0.0])
    wanted = -(target * chance.log() + (1 - target) * (1 - chance).log())
    assert_close(head.loss(logits, torch.tensor([False, True])), wanted)


def block_gru(cell: BlockGRU, deter: Tensor, stoch: Tensor, action: Tensor) -> Tensor:
    """One step of the block GRU, a block after the other, as the official code describes it."""
    action = action / action.abs().clamp(min=1.0).detach()
    shared = torch.cat([cell.from_deter(deter), cell.from_stoch(stoch), cell.from_action(action)], -1)
    inputs = torch.cat([part for block in deter.chunk(cell.blocks, -1) for part in (block, shared)], -1)
    hidden = F.silu(cell.norm(cell.hidden(inputs)))
    new = []
    for h, gates in zip(deter.chunk(cell.blocks, -1), cell.gates(hidden).chunk(cell.blocks, -1), strict=True):
        reset, candidate, update = gates.chunk(3, -1)
        candidate, update = torch.tanh(torch.sigmoid(reset) * candidate), torch.sigmoid(update - 1)
        new.append(update * candidate + (1 - update) * h)
    return torch.cat(new, -1)


@pytest.mark.parametrize("form", [lambda net: net, fast.swap], ids=["readable", "accelerated"])
def test_block_gru_is_the_same_block_by_block(form: Callable[[nn.Module], nn.Module]) -> None:
    cell = form(BlockGRU(16, 12, 2, units=8, blocks=4))
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.5)
    inputs = [torch.randn(5, size, requires_grad=True) for size in (16, 12, 2)]
    at_once, one_by_one = cell(*inputs), block_gru(cell, *inputs)
    assert_close(at_once, one_by_one)
    wanted = [*inputs, *cell.parameters()]
    gradients = [torch.autograd.grad(h.square().sum(), wanted) for h in (at_once, one_by_one)]
    assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", [nets.RMSNorm, variants.LayerNorm], ids=["bias", "no bias"])
def test_looking_up_the_weights_of_one_hot_latents_is_the_product(norm: Callable[[int], nn.Module]) -> None:
    head = fast.swap(nets.Head(7 + 5 * 32, 3, 9, 2, norm))
    dense = torch.randn(40, 4, 7, requires_grad=True)
    stoch = F.one_hot(torch.randint(32, (40, 4, 5)), 32).float()
    ones = fast.Ones.of(stoch)
    assert ones is not None and fast.Ones.of(stoch[:1]) is None and fast.Ones.of(stoch[..., :2, :]) is None
    features = torch.cat([dense, stoch.flatten(-2)], -1)
    plain, looked_up = head(features), fast.read(head, features, ones)
    assert_close(looked_up, plain)
    wanted = [dense, *head.parameters()]
    by_plain, by_lookup = (torch.autograd.grad(x.square().sum(), wanted, retain_graph=True) for x in (plain, looked_up))
    assert_close(by_lookup, by_plain, rtol=1e-3, atol=1e-4)


def test_a_dream_and_its_losses_do_not_depend_on_looking_up(monkeypatch: pytest.MonkeyPatch) -> None:
    config = preset("cpu", num_categoricals=16, num_categories=8, rnn_hidden_dim=16, blocks=2, hidden_dim=16)
    agent = fast.accelerate(DreamerV3(config, spaces.Box(-1, 1, (3,)), spaces.Discrete(2)))
    batch = make_batch(agent.config, agent.observation_space, spaces.Discrete(2))
    results, used = [], []
    apply = fast.Lookup.apply
    monkeypatch.setattr(fast.Lookup, "apply", lambda *inputs: used.append(1) or apply(*inputs))
    for fewest in (fast.LOOKUP, 10**9):
        monkeypatch.setattr(fast, "LOOKUP", fewest)
        agent.generator.manual_seed(1)
        total, _, metrics = agent.loss(batch)
        gradients = torch.autograd.grad(total, [*agent.actor.parameters(), *agent.critic.head.parameters()])
        results.append((total.detach(), metrics["imagined_return"], gradients))
        assert used  # and not once more in the second round
    assert len(used) == config.imagination_horizon + 1 + 5  # the actor at each step; both heads, critics and actor
    assert_close(*results, rtol=1e-4, atol=1e-6)


def test_lowered_is_what_autocast_would_make_of_it_for_a_product() -> None:
    x, weight = torch.randn(3, 4), torch.randn(4, 2)
    assert fast.lowered(x) is x
    with torch.autocast("cpu", torch.bfloat16):
        low = fast.lowered(x)
        assert low.dtype == torch.bfloat16 and torch.equal(low @ weight, x @ weight)


@pytest.mark.parametrize("actions", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))], ids=["discrete", "continuous"])
@pytest.mark.parametrize("precision", ["float32", slow("bfloat16")])
def test_the_actor_asked_once_learns_what_it_would_learn_asked_twice(
    actions: spaces.Space, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here its initial weights are large, so that its advantages, and all gradients, are no zeros."""
    config = dataclasses.replace(SMALL, actor_init_scale=1.0, value_init_scale=1.0)
    results, counts, heads_read = [], [], []
    forward = nets.Head.forward
    monkeypatch.setattr(nets.Head, "forward", lambda *inputs: heads_read.append(1) or forward(*inputs))
    for fewest in (1, 10**9):
        monkeypatch.setattr(fast, "MANY", fewest)
        agent = fast.accelerate(DreamerV3(config, spaces.Box(-1, 1, (3,)), actions, precision=precision))
        agent.train_step(make_batch(agent.config, agent.observation_space, actions))
        results.append([p.grad for p in agent.actor.parameters()])
        counts.append(len(heads_read))
        assert all(gradient.abs().max() > 1e-4 for gradient in results[-1])
    assert counts[1] - counts[0] == counts[0] + 1
    if precision == "float32":
        assert_close(*results, rtol=1e-4, atol=1e-6)
    else:  # few small steps are added up with three digits: as a whole; 1 % at the sizes of S1
        once, twice = (torch.cat([gradient.flatten() for gradient in result]) for result in results)
        assert (once - twice).norm() <= 0.1 * twice.norm()


@pytest.mark.parametrize("side", [1, 2, 4])
def test_patches_are_squares_of_pixels_and_go_back(side: int) -> None:
    image = torch.randn(2, 8, 12, 3)
    patches = nets.to_patches(image, side)
    assert patches.shape == (2, 8 // side, 12 // side, side * side * 3)
    square = image[:, side : 2 * side, :side]
    assert torch.equal(patches[:, 1, 0], square.flatten(1))
    assert torch.equal(nets.from_patches(patches, side), image)


@pytest.mark.parametrize("shape", [(16, 16, 3), (9, 13, 3)], ids=["even", "padded"])
def test_a_convolution_of_patches_is_one_of_pixels_with_twice_the_kernel_and_stride(shape: tuple[int, ...]) -> None:
    """Without norms and with one stage, so that kernels can be compared."""
    patched = nets.ConvEncoder(shape, 4, (1,), 2, "strided", lambda _: nn.Identity(), patch=2)
    conv = patched.stages[0][0]
    kernel = conv.weight.unflatten(1, (2, 2, 3)).permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
    image = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    height, width = (4 * side for side in patched.grid)
    padded = F.pad(image, (0, 0, 0, width - shape[1], 0, height - shape[0])).permute(0, 3, 1, 2) / 255 - 0.5
    wanted = F.silu(F.conv2d(padded, kernel, conv.bias, stride=4)).permute(0, 2, 3, 1).flatten(1)
    assert_close(patched(image), wanted)


# ----------------------------------------------------------------------------------------- world model

Cell = Callable[..., nn.Module]


CELLS = [BlockGRU, DenseGRU, Bare]


def observe_step_by_step(
    rssm: RSSM, carry: State, embeds: Tensor, prev_actions: Tensor, is_first: Tensor, generator: torch.Generator
) -> tuple[State, Tensor]:
    deters, stochs, logits = [], [], []
    for t in range(embeds.shape[1]):
        deter = rssm.dynamics_step(carry, prev_actions[:, t], is_first[:, t])
        posterior = rssm.posterior(deter, embeds[:, t])
        carry = State(deter, posterior.sample(generator))
        deters.append(carry.deter), stochs.append(carry.stoch), logits.append(posterior.logits)
    return State(torch.stack(deters, 1), torch.stack(stochs, 1)), torch.stack(logits, 1)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("form", [lambda net: net, fast.swap], ids=["readable", "accelerated"])
def test_observe_is_dynamics_step_and_posterior_in_turn(cell: Cell, form: Callable[[nn.Module], nn.Module]) -> None:
    rssm, batch, time = form(RSSM(SMALL, embed_dim=5, action_dim=2, cell=cell)), 3, 6
    carry = State(torch.randn(batch, 16), torch.randn(batch, 3, 4))
    inputs = torch.randn(batch, time, 5), 2 * torch.randn(batch, time, 2), torch.rand(batch, time) < 0.3
    at_once, posterior = rssm.observe(carry, *inputs, torch.Generator().manual_seed(1))
    in_turn, logits = observe_step_by_step(rssm, carry, *inputs, torch.Generator().manual_seed(1))
    assert_close((*at_once, posterior.logits), (*in_turn, logits), rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad(states.features.square().sum() + x.sum(), list(rssm.parameters()), allow_unused=True)
        for states, x in ((at_once, posterior.logits), (in_turn, logits))
    ]
    assert_close(*([g for g in side if g is not None] for side in gradients), rtol=1e-3, atol=1e-4)


def test_gate_init_scale_scales_the_gates_and_nothing_else() -> None:
    weights = []
    for scale in (1.0, 8.0):
        config = dataclasses.replace(SMALL, gate_init_scale=scale)
        weights.append(DreamerV3(config, spaces.Box(-1, 1, (3,)), spaces.Discrete(2)).world_model.state_dict())
    for name, weight in weights[0].items():
        assert_close(weights[1][name], weight * (8.0 if name == "cell.gates.weight" else 1.0))


def test_vector_scale_scales_the_loss_on_vectors_and_nothing_else() -> None:
    space, losses = (
        spaces.Dict({"image": spaces.Box(0, 255, (16, 16, 3), "uint8"), "vector": spaces.Box(-1, 1, (3,))}),
        [],
    )
    for scale in (1.0, 10.0):
        torch.manual_seed(0)
        model = WorldModel(dataclasses.replace(SMALL, vector_scale=scale), space, action_dim=2)
        batch = make_batch(dataclasses.replace(SMALL, batch_size=2, seq_len=3), space, spaces.Discrete(2))
        batch["prev_action"] = batch["action"]
        losses.append(model.loss(batch, model.initial(2))[0])
    for name, loss in losses[0].items():
        assert_close(losses[1][name], loss * (10.0 if name == "vector" else 1.0))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("form", [lambda net: net, fast.swap], ids=["readable", "accelerated"])
def test_imagine_is_dynamics_step_and_prior_in_turn(cell: Cell, form: Callable[[nn.Module], nn.Module]) -> None:
    rssm, no = form(RSSM(SMALL, embed_dim=5, action_dim=2, cell=cell)), torch.zeros(3, dtype=torch.bool)
    start = State(torch.randn(3, 16), torch.eye(4)[torch.randint(4, (3, 3))])

    def policy(state: State) -> Tensor:
        return state.deter[:, :2] * 3

    states, actions = rssm.imagine(start, policy, 4, torch.Generator().manual_seed(1))
    state, generator = start, torch.Generator().manual_seed(1)
    for t in range(5):
        assert_close(actions[:, t], policy(state))
        assert_close((states.deter[:, t], states.stoch[:, t]), tuple(state))
        deter = rssm.dynamics_step(state, policy(state), no)
        state = State(deter, rssm.prior(deter).sample(generator))


def test_discrete_entries_are_coded_and_scored_as_torch_does() -> None:
    space = spaces.Dict({"discrete": spaces.MultiDiscrete([3, 4])})
    model = WorldModel(SMALL, space, action_dim=1)
    x = torch.stack([torch.randint(3, (2, 5)), torch.randint(4, (2, 5))], -1)
    coded = torch.cat([F.one_hot(x[..., 0], 3), F.one_hot(x[..., 1], 4)], -1).float()
    assert_close(model.encode({"discrete": x}), model.encoder.mlp(coded))
    state = State(torch.randn(2, 5, 16), torch.randn(2, 5, 3, 4))
    first, second = model.reconstruct(state)["discrete"].split([3, 4], -1)
    wanted = sum(
        F.cross_entropy(logits.movedim(-1, 1), x[..., i], reduction="none") for i, logits in enumerate((first, second))
    )
    assert_close(model.reconstruction_losses(state, {"discrete": x})["discrete"], wanted)


# --------------------------------------------------------------------------------------------- returns


def n_step_return(rewards: Tensor, values: Tensor, continues: Tensor, t: int, n: int) -> Tensor:
    """n rewards after step t, then the value of the state reached."""
    total, chance = torch.zeros(len(rewards)), torch.ones(len(rewards))
    for k in range(t + 1, t + n + 1):
        total = total + chance * rewards[:, k]  # the reward of a last step counts, what follows it does not
        chance = chance * continues[:, k]
    return total + chance * values[:, t + n]


@pytest.mark.parametrize("lambda_", [0.0, 0.95, 1.0])
def test_lambda_returns_are_mixtures_of_n_step_returns(lambda_: float) -> None:
    rewards, values, continues = torch.randn(3, 6), torch.randn(3, 6), torch.rand(3, 6)
    returns = compute_returns(rewards, values, continues, lambda_)
    assert returns.shape == (3, 5)
    for t in range(5):
        longest = 5 - t
        mixture = lambda_ ** (longest - 1) * n_step_return(rewards, values, continues, t, longest)
        for n in range(1, longest):
            mixture = mixture + (1 - lambda_) * lambda_ ** (n - 1) * n_step_return(rewards, values, continues, t, n)
        assert_close(returns[:, t], mixture, rtol=1e-4, atol=1e-5)


def test_returns_of_replay_are_the_recursion_written_out() -> None:
    rewards, values, bootstrap, continues = (torch.randn(3, 6) for _ in range(4))
    last = torch.rand(3, 6) < 0.3
    returns = compute_returns(rewards, values, continues, 0.9, last=last, bootstrap=bootstrap)
    for b in range(3):
        following = bootstrap[b, 5]
        for t in reversed(range(5)):
            mix = 0.0 if last[b, t + 1] else 0.9
            after = (1 - mix) * bootstrap[b, t + 1] + mix * following
            following = rewards[b, t + 1] + continues[b, t + 1] * after
            assert_close(returns[b, t], following)


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_return_scale_is_the_range_of_quantiles(count: int) -> None:
    returns = 100 * torch.randn(count)
    low, high = torch.quantile(returns, 0.05), torch.quantile(returns, 0.95)
    assert_close(return_scale(returns), (high - low).clamp(min=1.0))
    assert_close(percentile_normalize(returns), returns / (high - low).clamp(min=1.0))


def test_return_normalizer_follows_the_quantiles() -> None:
    normalizer, low, high = ReturnNormalizer(rate=0.1), 0.0, 0.0
    for _ in range(20):
        returns = 100 * torch.randn(4, 5)
        low = 0.9 * low + 0.1 * torch.quantile(returns, 0.05)
        high = 0.9 * high + 0.1 * torch.quantile(returns, 0.95)
        assert_close(normalizer(returns), (high - low).clamp(min=1.0))


def test_following_a_scale_is_following_its_two_percentiles() -> None:
    own, followed = ReturnNormalizer(rate=0.1), FollowedScale(rate=0.1)
    for _ in range(20):
        returns = 100 * torch.randn(4, 5)
        assert_close(followed(returns), own(returns))


# ------------------------------------------------------------------------------------------- optimiser


def tensors() -> list[Tensor]:
    """Parameters of several shapes; one is all zeros, as an output layer at its start."""
    return [torch.randn(3, 4), torch.randn(4), torch.zeros(2, 2), torch.randn(2, 3, 3)]


def clipped(parameter: Tensor, gradient: Tensor, clip: float) -> Tensor:
    return gradient / (gradient.norm() / (clip * parameter.norm().clamp(min=1e-3))).clamp(min=1.0)


def test_clipping_is_the_same_tensor_by_tensor() -> None:
    parameters, gradients = tensors(), [10 * torch.randn_like(p) for p in tensors()]
    wanted = [clipped(p, g, 0.3) for p, g in zip(parameters, gradients, strict=True)]
    clip_adaptively_(parameters, gradients, 0.3)
    assert_close(gradients, wanted)


def test_laprop_is_its_formula_tensor_by_tensor() -> None:
    lr, b1, b2, eps, warmup = 0.01, 0.9, 0.99, 1e-8, 4
    params = [nn.Parameter(p) for p in tensors()]
    optimizer = LaProp(params, lr=lr, clip=0.3, beta1=b1, beta2=b2, eps=eps, warmup=warmup)
    wanted = [p.detach().clone() for p in params]
    v, m = ([torch.zeros_like(p) for p in wanted] for _ in range(2))
    for t in range(1, 11):
        for i, p in enumerate(params):
            p.grad = torch.randn_like(p)
            g = clipped(wanted[i], p.grad, 0.3)
            v[i] = b2 * v[i] + (1 - b2) * g**2
            m[i] = b1 * m[i] + (1 - b1) * g / ((v[i] / (1 - b2**t)).sqrt() + eps)
            wanted[i] = wanted[i] - lr * min(1, (t - 1) / warmup) * m[i] / (1 - b1**t)
        optimizer.step()
        assert_close([p.detach() for p in params], wanted)


def test_the_slow_critic_follows_parameter_by_parameter() -> None:
    critic = Critic(SMALL, features=4)
    for p in critic.head.parameters():
        nn.init.normal_(p)
    slow = [0.98 * s + 0.02 * p for s, p in zip(critic.slow.parameters(), critic.head.parameters(), strict=True)]
    critic.update_slow()
    assert_close([p.detach() for p in critic.slow.parameters()], [p.detach() for p in slow])
