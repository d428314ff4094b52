"""Numbers worked out from the papers' formulas, and by the authors' code where there is one."""

import pytest
import torch

import kdops
from kdops import nn

CE = (0.169846019556, 1.10550351041, 1.43249009424)
PEERS = [[[2, 0, -1], [0, 1, 3]], [[1, 1, 0], [-1, 2, 1]], [[0.5, -0.5, 2], [0, 0, 0]]]
LABELS = [0, 2]
GATE = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]
NETS = [
    [[2, 1, -1, 0], [0, 1, 0.5, -2], [1, -1, 0, 2]],
    [[1, 1.5, -3, 0.5], [1, 2, -1, 0], [2, 0, 1, 1.5]],
]
NET_LABELS = [0, 1, 3]
THIRD = [[0.5, 1, 0]], [[0, 2, 1.5]], [[1, -1, 0]]  # one more row for each of PEERS
THREE = [rows + more for rows, more in zip(PEERS, THIRD, strict=True)]
THREE_LABELS = [1, 1, 0]
HEADS = [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [2, 0, -1]]]  # of a second net
LEADER = [[0, 1, 1], [1, 0, 2]]
EMBEDDINGS = [[[1, 0], [0, 1], [1, 1]], [[2, -1], [0, 0.5], [1, 0]]]  # (N, P, D)
QUERY, KEY = [[1, 2], [0, 1]], [[0.5, 0], [1, -1]]
LINEAR = (0, 0.573259673239951, 0.426740326760049)
GENERAL = (-0.5265423245700542, 1.0058665088696215, 0.5206758157004328)
SOFT = {"ce_weight": 0.0}


def tensor(x, dtype):
    return torch.tensor(x, dtype=dtype)


def attention(dtype):
    """softmax of <W h_a, W' h_b> over all peers b, a itself included."""
    h = tensor(EMBEDDINGS, dtype)
    return (h @ tensor(QUERY, dtype).T @ (h @ tensor(KEY, dtype).T).mT).softmax(-1)


def labels(x=LABELS):
    return torch.tensor(x)


def mutual(dtype, count=3, labelled=False, **options):
    target = labels() if labelled else None
    loss = nn.MutualKLLoss(ce_weight=float(labelled), **options)
    return loss(tensor(PEERS[:count], dtype), target)


def gated(term=None):
    def value(dtype):
        loss = nn.GatedEnsembleLoss()
        found = loss(tensor(PEERS, dtype), tensor(GATE, dtype), labels(), return_terms=True)
        return found[1][term] if term else found[0]

    return value


def collaborative(term=None, **options):
    def value(dtype):
        loss = nn.CollaborativeLoss(divergence="cross_entropy", **options)
        found, terms = loss(tensor(PEERS, dtype), labels(), return_terms=True)
        return terms[term] if term else found

    return value


def others(temperature):
    def value(dtype):
        loss = nn.CollaborativeLoss(beta=0.0, temperature=temperature, scale_t2=True)
        return loss(tensor(PEERS, dtype), labels())

    return value


def kdcl(rule, weights=None, term="kl", logits=NETS, target=NET_LABELS, **options):
    def value(dtype):
        loss = nn.KDCLLoss(rule=rule, **SOFT, **options)
        given = None if weights is None else weights()
        return loss(tensor(logits, dtype), labels(target), given, return_terms=True)[1][term]

    return value


def ensemble_ce(weights, logits=NETS, target=NET_LABELS, **options):
    def value(dtype):
        options.update({"weights": tensor([weights()], dtype)} if weights else {})
        return kdops.mixture_kl(
            tensor(logits, dtype), labels(target), ensemble_ce_weight=1.0, kd_weight=0.0, **options
        )

    return value


def general(logits=NETS, target=NET_LABELS, **options):
    fit = nn.GeneralEnsembleWeights(len(logits), ridge=0.0, **options)
    fit.update(tensor(logits, torch.float64), labels(target))
    return fit


def weights(*args, **options):
    return lambda: general(*args, **options).solve()


def fitted(*args):
    return lambda dtype: general(*args, nonneg=False).solve()


def dense(term, rows):
    def value(dtype):
        loss = nn.DenseMutualLoss([0, 0, 1, 1])
        found, terms = loss(tensor(PEERS[:2] + HEADS, dtype), labels(), return_terms=True)
        return terms[term].sum() if term else found

    return value


def pair(student, teacher):
    def value(dtype):
        logits = tensor([student, teacher], dtype)
        return nn.MutualKLLoss(**SOFT)(logits, student=0)

    return value


def diverse(term=None, rows=slice(None), **options):
    def value(dtype):
        found, terms = nn.OKDDipLoss(**options)(
            tensor(PEERS, dtype),
            tensor(LEADER, dtype),
            attention(dtype),
            labels(),
            return_terms=True,
        )
        return terms[term][rows] if term else found

    return value


def diversity(**options):
    return lambda dtype: kdops.metrics.peer_diversity(tensor(PEERS, dtype), eps=1e-6, **options)


FIRST = [
    [0.38365173119, 0.232696537619, 0.38365173119],
    [0.705384512698, 0.0351190269593, 0.259496460342],
    [0.715268275969, 0.0215992303793, 0.263132493651],
]
SECOND = [
    [0.0240937682868, 0.797876026207, 0.178030205506],
    [0.776965749335, 0.0496697585859, 0.173364492079],
    [0.506480391056, 0.186323723226, 0.307195885718],
]
T3 = {"logits": THREE, "target": THREE_LABELS}
VALUES = {
    "cross-entropies": (gated("ce"), CE),
    "ONE, the ensemble's labels": (gated("ensemble_ce"), [0.543230548015]),
    "ONE, KLs": (gated("kl"), (0.292177694785, 0.299489152332, 0.469524201582)),
    "ONE": (gated(), 4.31226122092),
    "CL, soft": (
        collaborative("kl", beta=0.0),
        (1.26942771165, 1.15130628933, 1.21356988191),
    ),
    "CL": (collaborative(), 3.17107175355),
    "CL, T^2": (collaborative(scale_t2=True), 8.62252757787),
    "CL, KL at T = 1": (others(1.0), 1.77932705992),
    "CL, KL at T = 3": (others(3.0), 2.08439472889),
    "DML, two": (lambda dtype: mutual(dtype, 2), (0.717659993419, 0.587154393194)),
    "DML, three": (mutual, (1.02182398672, 0.676542988805, 0.797664867785)),
    "DML, three, in all": (lambda dtype: mutual(dtype).sum(), 2.49603184331),
    "DML, sum": (
        lambda dtype: mutual(dtype, peer_reduction="sum").sum(),
        2 * 2.49603184331,
    ),
    "DML at T = 3": (
        lambda dtype: mutual(dtype, temperature=3.0),
        (1.0570691145, 0.801747848224, 1.07216782426),
    ),
    "DML at T = 3, in all": (
        lambda dtype: mutual(dtype, temperature=3.0).sum(),
        2.93098478699,
    ),
    "DML with labels": (
        lambda dtype: mutual(dtype, labelled=True),
        (CE[0] + 1.02182398672, CE[1] + 0.676542988805, CE[2] + 0.797664867785),
    ),
    "KDCL naive": (kdcl("naive"), (0.170938793625, 0.213557793962)),
    "KDCL naive, labels": (
        ensemble_ce(None, rule="naive"),
        0.440189698561,
    ),
    "KDCL naive, of the batch": (kdcl("naive", naive_scope="batch"), (0, 0.425579735378)),
    "KDCL linear": (kdcl("linear"), (0, 0.425579735378)),
    "KDCL linear, labels": (ensemble_ce(lambda: (1, 0)), 0.528517519814),
    "KDCL min-logit": (kdcl("min_logit"), (0.149850489771, 0.200163892033)),
    "KDCL min-logit, labels": (ensemble_ce(None, rule="min_logit"), 0.414478327881),
    "KDCL general": (
        kdcl("general", weights(nonneg=False)),
        (0.119853038699, 1.03095218974),
    ),
    "KDCL general, labels": (
        ensemble_ce(lambda: (1.48811236211, -0.488112362112)),
        0.585048081782,
    ),
    "KDCL mean": (kdcl("mean"), (0.106682738889, 0.0927051147647)),
    "KDCL mean, labels": (ensemble_ce(lambda: (0.5, 0.5)), 0.666525548917),
    "KDCL, errors": (
        lambda dtype: general().products / 3,
        [[0.254165479712, 0.333719781398], [0.333719781398, 0.57625766609]],
    ),
    "KDCL, general weights": (fitted(), (1.48811236211, -0.488112362112)),
    "KDCL, general weights of three": (fitted(THREE, THREE_LABELS), GENERAL),
    "KDCL, general weights of three >= 0": (
        lambda dtype: general(THREE, THREE_LABELS).solve(),
        (0, 0.6253403902, 0.3746596098),
    ),
    "KDCL, linear weights of three": (
        lambda dtype: nn.linear_ensemble_weights(tensor(THREE, dtype), labels(THREE_LABELS)),
        LINEAR,
    ),
    "KDCL linear of three, labels": (
        ensemble_ce(lambda: LINEAR, THREE, THREE_LABELS),
        1.11333843989,
    ),
    "KDCL linear of three": (lambda d: kdcl("linear", **T3)(d).sum(), 1.05172378613),
    "KDCL general of three": (
        lambda d: kdcl("general", weights(THREE, THREE_LABELS, nonneg=False), **T3)(d).sum(),
        1.95021982391,
    ),
    "KDCL general of three >= 0": (
        lambda d: kdcl("general", weights(THREE, THREE_LABELS), **T3)(d).sum(),
        1.05669905519,
    ),
    "DCM, KLs": (dense("kl", None), 6.60466384139),
    "DCM, labels": (dense("ce", None), 4.18743961065),
    "DCM": (dense(None, None), 10.792103452),
    "OKDDip, attention": (attention, [FIRST, SECOND]),
    "OKDDip, peers": (
        diverse("kl", slice(3)),
        (0.575648231305, 0.448371131602, 0.657030313996),
    ),
    "OKDDip, leader": (diverse("kl", 3), 0.426288798728),
    "OKDDip": (diverse(), 5.94997848409),
    "OKDDip, peers by probabilities": (
        diverse("kl", slice(3), aggregate="probabilities"),
        (0.614176434286, 0.462250330863, 0.597794264234),
    ),
    "OKDDip, leader by probabilities": (
        diverse("kl", 3, aggregate="probabilities"),
        0.41033222957,
    ),
    "diversity": (diversity(), 0.702839541725),
    "diversity of rows": (
        diversity(reduction="none"),
        (0.7586781695510504, 0.6470009138996045),
    ),
}
for i, row in enumerate([[0.254225978475, 1.69396531891], [0.342117238864, 1.24837420106]]):
    for j, expected in enumerate(row):
        VALUES[f"DCM, head {i} from {j}"] = (pair(PEERS[i], HEADS[j]), expected)
for i, row in enumerate([[0.183383362723, 0.344925601863], [1.65916845143, 0.878503688058]]):
    for j, expected in enumerate(row):
        VALUES[f"DCM, second net's head {i} from {j}"] = (pair(HEADS[i], PEERS[j]), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", VALUES)
def test_value(backend, name, dtype):
    value, expected = VALUES[name][0](dtype), torch.tensor(VALUES[name][1], dtype=torch.float64)
    rtol = 1e-9 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=rtol / 1e3)
