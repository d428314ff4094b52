"""First and second derivatives of the peers' losses against finite differences, in float64."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from kdops import reference
from kdops.reference.peers import Rows, targets

from .peer_calls import BY_NAME, CASES

REDUCTIONS = ("batchmean", "sum", "none")
EVERYTHING = {"check_batched_grad": True, "check_grad_dtypes": True, "nondet_tol": 0.0}


def differentiable(case, reduction, stacked):
    """A function of what has a gradient, and that."""
    logits, weights, options = case.inputs()
    options["reduction"] = reduction
    logits = torch.stack(logits) if stacked else logits
    tensors = [logits] if stacked else logits
    tensors = [x.requires_grad_() for x in (*tensors, *([] if weights is None else [weights]))]

    def loss(*tensors):
        given = list(tensors)
        w = None if weights is None else given.pop()
        return case.call(given[0] if stacked else given, w, **options)

    return loss, tuple(tensors)


# Of the others' constant targets finite differences would see the moves.
WHOLE = [case for case in CASES if "all" in case.name.split("_") or "peer_grad" in case.name]
WHOLE += [BY_NAME["mixture_kl-attention"]]


@pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "list"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_gradcheck(backend, case, reduction, stacked):
    loss, tensors = differentiable(case, reduction, stacked)
    assert gradcheck(loss, tensors, **EVERYTHING)


@pytest.mark.parametrize("case", WHOLE, ids=lambda case: case.name)
def test_gradgradcheck(backend, case):
    loss, tensors = differentiable(case, "batchmean", False)
    assert gradgradcheck(loss, tensors, nondet_tol=0.0)


def targets_apart(case, logits, mixture, **options):
    """The loss with constant targets, as kd_loss of each pair of own logits and target."""
    temperature = options.get("temperature", 1.0)
    soft = {"temperature": temperature, "reduction": "none", "scale_t2": options.get("scale_t2", 1)}
    constant = [x.detach() for x in logits]
    target = options.get("target")
    hard = options.get("ce_weight", 0.0)
    hard = hard if isinstance(hard, list) else [hard] * len(logits)
    rows = Rows(logits, target, -100, "none")
    own = []
    if case.stem == "mutual_kl":
        matrix = options.get("weights") or [[0.5 * (i != j) for j in range(3)] for i in range(3)]
        aims = [[(matrix[i][j], constant[j]) for j in range(3)] for i in range(3)]
    else:
        rule = options.get("rule", "weights")
        matrix = (1 - torch.eye(3, dtype=torch.float64)) / 2 if mixture is None else mixture
        live = options.get("target_grad", "none") == "weights"
        mixed = targets(rows, constant, matrix if live else matrix.detach(), rule)
        mixed = mixed * 3 if len(mixed) == 1 else mixed
        aims = [[(options.get("kd_weight", 1.0), x)] for x in mixed]
    for z, aim, w in zip(logits, aims, hard, strict=True):
        value = sum(weight * reference.kd_loss(z, x, target, **soft) for weight, x in aim if weight)
        if w:
            value = value + reference.kd_loss(
                z, z.detach(), target, ce_weight=w, kd_weight=0, reduction="none"
            )
        own.append(value if isinstance(value, torch.Tensor) else rows.zeros())
    total = torch.stack(own)
    if case.stem == "mixture_kl":
        total = total.sum(0)
        if ensemble := options.get("ensemble_ce_weight", 0.0):
            for t in targets(rows, logits, matrix, options.get("rule", "weights")):
                total = total + ensemble * reference.kd_loss(
                    t, t.detach(), target, ce_weight=1.0, kd_weight=0, reduction="none"
                )
    counted = total[..., 0].numel() if target is None else int((target != -100).sum())
    return total.sum(-1) / (total.shape[-1] if target is None else max(1, counted))


CONSTANT = [case for case in CASES if case not in WHOLE]


@pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "list"])
@pytest.mark.parametrize("case", CONSTANT, ids=lambda case: case.name)
def test_constant_targets(backend, case, stacked):
    """Value and gradients equal those of pairs with detached targets, one by one."""
    logits, weights, options = case.inputs(rows=(9,))
    results = []
    for function in (case.call, lambda *a, **k: targets_apart(case, *a, **k)):
        leaves = [x.clone().requires_grad_() for x in logits]
        w = None if weights is None else weights.clone().requires_grad_()
        given = torch.stack(leaves) if stacked and function == case.call else leaves
        value = function(given, w, **options)
        upstream = torch.linspace(-1, 2, value.numel(), dtype=value.dtype).reshape(value.shape)
        wanted = [*leaves] if w is None else [*leaves, w]
        found = torch.autograd.grad(value, wanted, upstream, allow_unused=True)
        results.append([value, *(torch.zeros(()) if g is None else g for g in found)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs.expand_as(ours), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_peer_without_gradient_is_a_target_alone(backend, case):
    """Nothing is handed to it, and the others' gradients are what they were."""
    logits, weights, options = case.inputs(rows=(9,))
    leaves = [x.clone().requires_grad_() for x in logits]
    every = torch.autograd.grad(case.call(leaves, weights, **options).sum(), leaves)
    some = [leaves[0], leaves[1].detach(), leaves[2]]
    value = case.call(some, weights, **options)
    found = torch.autograd.grad(value.sum(), [leaves[0], leaves[2]], allow_unused=True)
    for ours, theirs in zip(found, (every[0], every[2]), strict=True):
        ours = torch.zeros_like(theirs) if ours is None else ours
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_backward_twice_and_any_upstream(backend, case):
    logits, weights, options = case.inputs(rows=(9,))
    leaves = [x.clone().requires_grad_() for x in logits]
    value = case.call(leaves, weights, **options)
    once = torch.autograd.grad(value, leaves, torch.ones_like(value), retain_graph=True)
    for factor in (0.0, -2.5):
        upstream = torch.full((), factor, dtype=value.dtype).expand(value.shape)
        again = torch.autograd.grad(value, leaves, upstream, retain_graph=True)
        for first, second in zip(once, again, strict=True):
            torch.testing.assert_close(second, factor * first, rtol=1e-12, atol=1e-14)
