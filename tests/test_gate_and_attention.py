"""EnsembleGate and PeerAttention: weights of peers, their numbers and their edges."""

import pytest
import torch
from torch import nn

import kdops
from kdops.nn import EnsembleGate, PeerAttention

from .cases import generator

# OKDDip's example: three peers' embeddings of two rows, its two maps, and the weights
H = [[[1, 0], [0, 1], [1, 1]], [[2, -1], [0, 0.5], [1, 0]]]  # (B, P, D)
L, E = [[1, 2], [0, 1]], [[0.5, 0], [1, -1]]
ALPHA = [
    [
        [0.38365173119, 0.232696537619, 0.38365173119],
        [0.705384512698, 0.0351190269593, 0.259496460342],
        [0.715268275969, 0.0215992303793, 0.263132493651],
    ],
    [
        [0.0240937682868, 0.797876026207, 0.178030205506],
        [0.776965749335, 0.0496697585859, 0.173364492079],
        [0.506480391056, 0.186323723226, 0.307195885718],
    ],
]


def attention(dtype=torch.float64):
    module = PeerAttention(2, reduction=1).to(dtype)
    with torch.no_grad():
        module.query.weight.copy_(torch.tensor(L))
        module.key.weight.copy_(torch.tensor(E))
    return module, torch.tensor(H, dtype=dtype).transpose(0, 1)


def test_attention_of_the_example():
    module, features = attention()
    expected = torch.tensor(ALPHA, dtype=torch.float64)
    torch.testing.assert_close(module(features), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(module(list(features)), expected, rtol=1e-10, atol=1e-12)


def test_attention_is_shared_and_has_no_bias():
    module = PeerAttention(64)
    assert {k: tuple(p.shape) for k, p in module.named_parameters()} == {
        "query.weight": (8, 64),
        "key.weight": (8, 64),
    }
    features = torch.randn((4, 5, 64), generator=generator())
    alpha = module(features)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(module(features[order]), alpha[:, order][:, :, order])
    torch.testing.assert_close(alpha.sum(2), torch.ones(5, 4))


def test_attention_learns_through_the_targets():
    module, features = attention()
    logits = torch.randn((3, 2, 4), dtype=torch.float64, generator=generator())
    target = torch.tensor([0, 1])
    for grad_to, moves in (("weights", True), ("none", False)):
        module.zero_grad()
        peers = logits.clone().requires_grad_()
        loss = kdops.functional.mixture_kl(
            peers, target, weights=module(features), ce_weight=1.0, target_grad=grad_to
        )
        loss.backward()
        for weight in module.parameters():
            assert (weight.grad is not None and bool(weight.grad.any())) == moves
    assert torch.autograd.gradcheck(module, (features.clone().requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_attention_in_half_types(dtype):
    """Energies beyond float16's range: they are float32's."""
    module = PeerAttention(64)
    features = (200 * torch.randn((3, 5, 64), generator=generator())).to(dtype)
    with torch.autocast("cpu", dtype):
        alpha = module(features)
    assert alpha.dtype == torch.float32 and alpha.isfinite().all()
    torch.testing.assert_close(alpha, module(features.float()))
    assert module.to(dtype)(features).dtype == torch.float32


def test_one_peer_and_no_rows():
    module = PeerAttention(8)
    assert torch.equal(module(torch.randn(1, 4, 8)), torch.ones(4, 1, 1))
    assert module(torch.randn(3, 0, 8)).shape == (0, 3, 3)


ATTENTION = {
    "none": ((), ValueError, "at least one peer's, got none"),
    "no peer": (torch.ones(0, 3, 8), ValueError, "at least one peer's, got none"),
    "width": (torch.ones(2, 3, 9), ValueError, r"\(P, B, 8\) or P tensors"),
    "matrix": (torch.ones(3, 8), ValueError, r"got \[\(3, 8\)\]"),
    "rows": ([torch.ones(3, 8), torch.ones(4, 8)], ValueError, "of one shape"),
    "cubes": ([torch.ones(1, 3, 8)], ValueError, "of one shape"),
    "labels": (torch.ones(2, 3, 8).long(), TypeError, "PeerAttention: features must be float32"),
    "numbers": ([1.0], TypeError, "PeerAttention: features must be a tensor, got float"),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_bad_embeddings(name):
    features, error, message = ATTENTION[name]
    with pytest.raises(error, match=message):
        PeerAttention(8)(features)


def test_gate_by_its_formula():
    torch.manual_seed(0)
    gate = EnsembleGate(6, 3).double()
    nn.init.normal_(gate.norm.weight)
    nn.init.normal_(gate.norm.bias)
    maps = torch.randn((9, 6, 4, 5), dtype=torch.float64, generator=generator())
    energy = maps.mean((2, 3)) @ gate.fc.weight.T + gate.fc.bias
    normal = (energy - energy.mean(0)) / (energy.var(0, correction=0) + 1e-5).sqrt()
    expected = (normal * gate.norm.weight + gate.norm.bias).relu().softmax(1)
    weights = gate(maps)
    torch.testing.assert_close(weights, expected)
    torch.testing.assert_close(weights.sum(1), torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(gate.norm.running_mean, 0.1 * energy.mean(0).detach())
    torch.testing.assert_close(gate(maps.mean((2, 3))), weights)
    gate.pool = nn.AvgPool2d(4)
    same = gate(maps[..., :4])
    torch.testing.assert_close(gate(maps[..., :4].mean((2, 3))), same)
    gate.eval()
    assert torch.autograd.gradcheck(gate, (maps[:2].clone().requires_grad_(),))


def test_gate_of_one_row_in_training():
    gate = EnsembleGate(6, 3)
    gate(torch.randn((16, 6), generator=generator()))
    state = {key: value.clone() for key, value in gate.state_dict().items()}
    row = torch.randn((1, 6), generator=generator(1))
    trained = gate.train()(row)
    assert torch.equal(trained, gate.eval()(row))
    assert all(torch.equal(value, state[key]) for key, value in gate.state_dict().items())
    gate.train()(row).square().sum().backward()
    assert gate.fc.weight.grad.isfinite().all()
    assert gate(torch.ones(0, 6)).shape == (0, 3)


def test_one_branch():
    assert torch.equal(EnsembleGate(6, 1)(torch.randn(5, 6)), torch.ones(5, 1))


def test_an_eighth_of_the_rows_have_equal_weights_of_three_branches():
    """All three energies are at most 0 in one row of 2^3, and most weights lie in [0.07, 0.80]."""
    torch.manual_seed(0)
    gate = EnsembleGate(64, 3)
    nn.init.orthogonal_(gate.fc.weight)  # independent energies
    features = torch.randn((40_000, 64), generator=generator()).requires_grad_()
    weights = gate(features)
    equal = (weights == weights[:, :1]).all(1)
    assert equal.float().mean().item() == pytest.approx(0.125, abs=0.01)
    inside = ((weights > 0.07) & (weights < 0.80)).float().mean()
    assert inside > 0.95
    (gradient,) = torch.autograd.grad(gate.eval()(features)[:, 0].sum(), features)
    rows = (gate(features) == 1 / 3).all(1)
    assert rows.any() and not gradient[rows].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gate_in_half_types(dtype):
    gate = EnsembleGate(64, 3)
    maps = torch.randn((32, 64, 2, 2), generator=generator()).to(dtype)
    with torch.autocast("cpu", dtype):
        weights = gate(maps)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, gate(maps.float()))
    torch.testing.assert_close(weights.sum(1), torch.ones(32))
    assert gate.to(dtype)(maps).isfinite().all()


def test_synchronised_batch_norm_takes_the_gates_place():
    gate = nn.SyncBatchNorm.convert_sync_batchnorm(EnsembleGate(6, 3))
    assert isinstance(gate.norm, nn.SyncBatchNorm)


@pytest.mark.parametrize("name", ["gate", "attention"])
def test_compiled(name):
    module = EnsembleGate(8, 3) if name == "gate" else PeerAttention(8)
    features = torch.randn((3, 5, 8), generator=generator())
    features = features[0] if name == "gate" else features
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features), module(features))


GATE = {
    "channels": (torch.ones(4, 5), ValueError, r"must be \(N, 6, H, W\) or \(N, 6\), got .*4, 5"),
    "map channels": (torch.ones(4, 5, 2, 2), ValueError, r"must be \(N, 6, H, W\)"),
    "empty maps": (torch.ones(4, 6, 0, 2), ValueError, "feature maps with C, H, W >= 1"),
    "sequence": (torch.ones(4, 6, 2), ValueError, r"or \(N, 6\), got shape \(4, 6, 2\)"),
    "labels": (torch.ones(4, 6).long(), TypeError, "EnsembleGate: features must be float32"),
    "list": ([1.0], TypeError, "EnsembleGate: features must be a tensor, got list"),
}


@pytest.mark.parametrize("name", GATE)
def test_bad_features(name):
    features, error, message = GATE[name]
    with pytest.raises(error, match=message):
        EnsembleGate(6, 3)(features)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: EnsembleGate(0, 3), "EnsembleGate: in_channels must be >= 1, got 0"),
        (lambda: EnsembleGate(6, 0), "EnsembleGate: num_branches must be >= 1, got 0"),
        (lambda: EnsembleGate(6, 3, "max"), "EnsembleGate: pool must be one of 'adaptive'"),
        (lambda: PeerAttention(0), "PeerAttention: in_features must be >= 1, got 0"),
        (lambda: PeerAttention(4), "PeerAttention: reduction must be in 1..4, got 8"),
    ],
    ids=["channels", "branches", "pool", "width", "reduction"],
)
def test_bad_options(call, message):
    with pytest.raises(ValueError, match=message):
        call()
