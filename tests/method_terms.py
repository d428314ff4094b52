"""What each method's terms are, in formulas of their own: see `TERMS` and `LEARNED`."""

import torch
import torch.nn.functional as F

import kdops
from kdops.taps import Outputs

from .cases import generator

LAYERS = {"early": (3, 4, 4), "middle": (3, 2, 2), "narrow": (2, 4, 4), "embedding": (5,)}
TEACHERS = {"early": (3, 6, 6), "middle": (3, 3, 3), "narrow": (4, 4, 4), "embedding": (7,)}


def outputs(shapes, seed, dtype=torch.float64, rows=6):
    g = generator(seed)
    made = {
        name: torch.randn(rows, *shape, generator=g, dtype=torch.float64).to(dtype)
        for name, shape in (*shapes.items(), ("logits", (4,)))
    }
    for x in made.values():
        x.requires_grad_()
    return Outputs(made.pop("logits"), made)


def batch(**options):
    """Student, teacher and labels; all of the teacher's outputs require a gradient as well."""
    student, teacher = outputs(LAYERS, 1, **options), outputs(TEACHERS, 2, **options)
    return student, teacher, torch.arange(len(student.logits)) % 4


def ce(s, y):
    return F.cross_entropy(s.logits, y)


def soft(s, t, temperature):
    p, q = (F.log_softmax(x.logits / temperature, 1) for x in (t, s))
    return temperature**2 * F.kl_div(q, p, reduction="batchmean", log_target=True)


def pooled(x, layer):
    return x.features[layer].mean((2, 3))


def emb(function, s, t, **options):
    return function(s.features["embedding"], t.features["embedding"], **options)


def flow(s, t, weights):
    sides = [[x.features["embedding"], x.logits] for x in (s, t)]
    return sum(
        w * kdops.pkt_loss(a, b, kernel=kernel, divergence="jeffreys", reduction="mean")
        for a, b, w in zip(*sides, weights, strict=True)
        for kernel in ("cosine", "student_t")
    )


def z_scores(x):
    return Outputs((x.logits - x.logits.mean(1, True)) / x.logits.std(1, keepdim=True), {})


# Method, options, its terms as they are published; the defaults are where there is no option.
TERMS = [
    ("Labels", {}, lambda s, t, y: {"labels": ce(s, y)}),
    ("HintonKD", {}, lambda s, t, y: {"logits": 0.1 * ce(s, y) + 0.9 * soft(s, t, 4)}),
    ("HintonKD", {"kd_weight": 0, "ce_weight": 0.3}, lambda s, t, y: {"labels": 0.3 * ce(s, y)}),
    (
        "HintonKD",
        {"ce_weight": 0, "kd_weight": 2, "temperature": 3},
        lambda s, t, y: {"logits": 2 * soft(s, t, 3)},
    ),
    (
        "DKD",
        {"warmup": 0},
        lambda s, t, y: {
            "labels": ce(s, y),
            "decoupled": kdops.dkd_loss(
                s.logits, t.logits, y, temperature=4, target_weight=1, rest_weight=8
            ),
        },
    ),
    (
        "DIST",
        {},
        lambda s, t, y: {
            "labels": ce(s, y),
            "correlation": 2 * kdops.dist_loss(s.logits, t.logits, temperature=1),
        },
    ),
    (
        "StandardizedKD",
        {},
        lambda s, t, y: {
            "labels": ce(s, y),
            "standardized": 9 * soft(z_scores(s), z_scores(t), 2),
        },
    ),
    (
        "LogitMatching",
        {"kd_weight": 0.5},
        lambda s, t, y: {
            "logits": ce(s, y) + 0.5 * soft(s, t, 4),
            "distance": 0.1 * F.mse_loss(s.logits, t.logits),
        },
    ),
    (
        "AT",
        {},
        lambda s, t, y: {
            "labels": ce(s, y),
            **{
                f"attention {x}": 1000 * kdops.at_loss(s.features[x], t.features[x])
                for x in ("early", "middle")
            },
        },
    ),
    (
        "FSP",
        {},
        lambda s, t, y: {
            "flow early-middle": 50
            * kdops.fsp_loss(
                *((x.features["early"], x.features["middle"]) for x in (s, t)),
            )
        },
    ),
    (
        "RKD",
        {},
        lambda s, t, y: {
            "labels": ce(s, y),
            "distance embedding": 25 * emb(kdops.rkd_distance_loss, s, t),
            "angle embedding": 50 * emb(kdops.rkd_angle_loss, s, t),
        },
    ),
    (
        "RKD",
        {"layers": {"middle": 2.0, "logits": 1.0}, "angle_weight": 0, "ce_weight": 0},
        lambda s, t, y: {
            "distance middle": 50
            * kdops.rkd_distance_loss(pooled(s, "middle"), pooled(t, "middle")),
            "distance logits": 25 * kdops.rkd_distance_loss(s.logits, t.logits),
        },
    ),
    (
        "IRG",
        {"transforms": [("early", "middle")]},
        lambda s, t, y: {
            "labels": ce(s, y),
            "vertices": 0.1 * F.mse_loss(s.logits, t.logits),
            "edges": 5 * emb(kdops.irg_edge_loss, s, t),
            "transformations": 5
            * kdops.irg_transform_loss(
                *((pooled(x, "early"), pooled(x, "middle")) for x in (s, t)),
            ),
        },
    ),
    (
        "IRG",
        {"edges": ["early", "embedding"], "to_many": "middle", "vertex_weight": 0},
        lambda s, t, y: {
            "labels": ce(s, y),
            "edges": 5
            * sum(
                kdops.irg_edge_loss(x, pooled(t, "middle"))
                for x in (pooled(s, "early"), s.features["embedding"])
            ),
        },
    ),
    (
        "CCKD",
        {},
        lambda s, t, y: {
            "labels": ce(s, y),
            "correlation": 100 * emb(kdops.cckd_loss, s, t, kernel="rbf", gamma=0.4, order=2),
        },
    ),
    (
        "PKT",
        {},
        lambda s, t, y: {
            "labels": ce(s, y),
            "neighbours embedding": 470 * emb(kdops.pkt_loss, s, t, reduction="batchmean"),
        },
    ),
    ("HKD", {"layers": ["embedding", "logits"]}, lambda s, t, y: {"flow": flow(s, t, [100, 1])}),
    (
        "SP",
        {},
        lambda s, t, y: {
            "labels": ce(s, y),
            "similarity middle": 3000
            * kdops.sp_loss(*(x.features["middle"].flatten(1) for x in (s, t))),
        },
    ),
]
# Methods with parts that learn: where the parts are, and the terms with them.
LEARNED = {
    "Hint": (
        {"layers": "narrow", "activation": "relu"},
        lambda m, s, t: {
            "hint narrow": 0.5
            * (m.regressors[0](s.features["narrow"]) - t.features["narrow"]).square().sum()
            / 6
        },
    ),
    "FitNets": (
        {"layers": "narrow", "hint_weight": 3, "reduction": "mean"},
        lambda m, s, t: {
            "hint narrow": 1.5
            * F.mse_loss(m.regressors[0](s.features["narrow"]), t.features["narrow"])
        },
    ),
    "VID": (
        {"layers": "narrow"},
        lambda m, s, t: {
            "likelihood narrow": F.gaussian_nll_loss(
                m.losses[0].regressor(s.features["narrow"]),
                t.features["narrow"],
                torch.full((6, 4, 4, 4), 5.0, dtype=torch.float64),
            )
        },
    ),
    "FSP": (
        {"pairs": [("narrow", "early")], "regress": True},
        lambda m, s, t: {
            "flow narrow-early": 50
            * kdops.fsp_loss(
                tuple(
                    r(s.features[x]) for r, x in zip(m.regressors, ("narrow", "early"), strict=True)
                ),
                (t.features["narrow"], t.features["early"]),
            )
        },
    ),
    "CCKD": (
        {"projection": 3, "gamma": 0.5},
        lambda m, s, t: {
            "correlation": 100
            * kdops.cckd_loss(
                m.maps[0](s.features["embedding"]), m.maps[1](t.features["embedding"]), gamma=0.5
            )
        },
    ),
}
