"""Losses of peers: inputs and options to test the kernels with, and their float64 reference."""

import torch

import kdops

from .cases import generator


def _randn(shape, seed):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def _peaky(shape, k, apart):
    """One logit 40 above the others, for every second peer `apart` columns beside."""
    x, rows = _randn(shape, k), torch.arange(shape[0])
    x[rows, (rows + k % 2 * apart) % shape[1]] = 40
    return x


def _near(spread):
    return lambda shape, k: 2 * _randn(shape, 99) + spread * _randn(shape, k) * (k > 0)


PEERS = {
    "randn": lambda shape, k: 2 * _randn(shape, k),
    "relu": lambda shape, k: torch.relu(_randn(shape, k)),
    "near 1e-3": _near(1e-3),
    "near 1e-6": _near(1e-6),
    "offsets": lambda shape, k: _randn(shape, k) + (-1) ** k * 1e3,
    "peaky right": lambda shape, k: _peaky(shape, k, 0),
    "peaky wrong": lambda shape, k: _peaky(shape, k, 1),
    "range 1e3": lambda shape, k: 1e3 * _randn(shape, k),
}
ORDINARY = ("randn", "relu", "near 1e-3", "near 1e-6", "offsets")


def peers(count, shape, dtype=torch.float32, kind="randn"):
    return [PEERS[kind](shape, k).to(dtype) for k in range(count)]


def labels(shape):
    target = torch.randint(shape[1], shape[:1], generator=generator(7))
    target[6::7] = -100
    return target


def mixing(*sizes, total=True):
    """Weights that the float types hold exactly, as does their sum, 1."""
    weights = torch.randint(1, 64, sizes, generator=generator(3)).double() / 64
    if total:
        weights[..., 0] += 1 - weights.sum(-1)
    return weights


def _matrix(count, _):
    weights = mixing(count, count, total=False)
    weights[0, 1:] = 0  # peer 0 learns from nobody
    return {"weights": weights.fill_diagonal_(0).tolist(), "temperature": 3.0}


def _labelled(count, shape):
    return {"target": labels(shape), "ce_weight": [0.5 + k for k in range(count)]}


def _rows(grad, **more):
    def options(count, shape):
        return {
            "target": labels(shape),
            "weights": mixing(*shape[:1], 1, count),
            "target_grad": grad,
            **more,
        }

    return options


def _static(grad, targets, **more):
    def options(count, shape):
        weights = mixing(count if targets else 1, count)
        return {"target": labels(shape), "weights": weights, "target_grad": grad, **more}

    return options


def _rule(rule, grad, **more):
    return lambda count, shape: {
        "target": labels(shape),
        "rule": rule,
        "target_grad": grad,
        "temperature": 2.0,
        **more,
    }


# Of each the function, its options for (count, shape), and the logits that suit it: of saturated
# ones the gradient of a target, or the best peer, is lost to rounding in the oracle itself.
ALL = tuple(PEERS)
CASES = {
    "mutual": (kdops.mutual_kl, lambda *_: {}, ALL),
    "mutual-matrix": (kdops.mutual_kl, _matrix, ALL),
    "mutual-labels": (kdops.mutual_kl, _labelled, ALL),
    "mutual-labels-T": (
        kdops.mutual_kl,
        lambda *a: {**_labelled(*a), "temperature": 4.0, "scale_t2": False},
        ALL,
    ),
    "mixture": (kdops.mixture_kl, lambda *_: {"temperature": 3.0}, ALL),
    "mixture-labels": (kdops.mixture_kl, _labelled, ALL),
    "mixture-rows": (kdops.mixture_kl, _rows("none", ce_weight=1.0), ALL),
    "mixture-rows-weights": (kdops.mixture_kl, _rows("weights", kd_weight=0.7), ORDINARY),
    "mixture-rows-all": (kdops.mixture_kl, _rows("all", temperature=2.0), ORDINARY),
    "mixture-ensemble": (
        kdops.mixture_kl,
        _rows("weights", ensemble_ce_weight=0.3, temperature=3.0),
        ORDINARY,
    ),
    "mixture-ensemble-alone": (
        kdops.mixture_kl,
        _static("none", False, kd_weight=0.0, ensemble_ce_weight=1.0),
        ORDINARY,
    ),
    "mixture-static-all": (
        kdops.mixture_kl,
        _static("all", True, ensemble_ce_weight=0.5, ce_weight=0.1),
        ORDINARY,
    ),
    "min_logit": (kdops.mixture_kl, _rule("min_logit", "none", ce_weight=1.0), ORDINARY),
    "min_logit-all": (
        kdops.mixture_kl,
        _rule("min_logit", "all", ensemble_ce_weight=0.5),
        ORDINARY,
    ),
    "naive": (kdops.mixture_kl, _rule("naive", "all", ensemble_ce_weight=0.5), ORDINARY[:3]),
}


def run(function, logits, of_value=torch.ones_like, stacked=False, **options):
    """Losses, terms, the peers' gradients and the weights', if they are a tensor."""
    leaves = [x.detach().clone().requires_grad_() for x in logits]
    leaves = [torch.stack(leaves).detach().requires_grad_()] if stacked else leaves
    sources = list(leaves)
    if isinstance(options.get("weights"), torch.Tensor):
        dtype = torch.float64 if logits[0].dtype == torch.float64 else torch.float32
        options["weights"] = options["weights"].to(dtype).requires_grad_()
        sources.append(options["weights"])
    losses, terms = function(leaves[0] if stacked else leaves, return_terms=True, **options)
    found = torch.autograd.grad(
        losses, sources, of_value(losses.detach()), allow_unused=True, materialize_grads=True
    )
    logits_grad = found[0] if stacked else torch.stack(found[: len(leaves)])
    weights_grad = found[-1] if len(sources) > len(leaves) else None
    return losses.detach(), torch.cat([*terms.values()]), logits_grad, weights_grad


def oracle(function, logits, *args, **options):
    with kdops.backend("reference"):
        return run(function, [x.double() for x in logits], *args, **options)
