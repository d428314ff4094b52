"""The methods in training: schedules, what they refuse, derivatives, and a loop of one's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from kdops import Tapped, Teacher, methods
from kdops.schedules import CriticalPeriod, LinearDecay
from kdops.taps import Outputs

from .cases import generator
from .method_terms import batch, emb, flow


def test_hkd_follows_its_schedule():
    student, teacher, labels = batch()
    method = methods.HKD(["embedding", "logits"], weight=3)
    for epoch in (0, 1, 12, 13, 50):
        method.set_epoch(epoch)
        expected = 3 * flow(student, teacher, [100 * 0.7**epoch, 1])
        torch.testing.assert_close(method(student, teacher, labels), expected)
    method = methods.HKD("embedding", schedule=CriticalPeriod(initial=5, last=2))
    assert method.layers == ("embedding",)
    expected = 2 * emb(flow_of_one, student, teacher)
    torch.testing.assert_close(method(student, teacher, labels), expected)


def flow_of_one(student, teacher):
    return flow(*(Outputs(x, {"embedding": x}) for x in (student, teacher)), [1, 0])


def test_hkd_of_unit_scale():
    """The same for features of any scale, zeros in float16 included."""
    student, teacher, labels = batch()
    scaled = Outputs(student.logits, {k: 1000 * v for k, v in student.features.items()})
    method = methods.HKD(["embedding"], unit_scale=True)
    values = [method(x, teacher, labels) for x in (student, scaled)]
    torch.testing.assert_close(*values)
    zeros = Outputs(student.logits, {"embedding": torch.zeros(6, 5, dtype=torch.float16)})
    assert method(zeros, teacher, labels).isfinite()


def test_dkd_warms_up():
    student, teacher, labels = batch()
    full = methods.DKD(warmup=0).terms(student, teacher, labels)["decoupled"]
    method = methods.DKD()
    for epoch, share in ((0, 1 / 20), (9, 0.5), (19, 1), (50, 1)):
        method.set_epoch(epoch)
        terms = method.terms(student, teacher, labels)
        torch.testing.assert_close(terms["decoupled"], share * full)


def test_fitnets_soft_targets():
    """CE + lambda CE at T = 3 without T^2: the gradient, and up to the entropy the value."""
    zs = torch.tensor([[1.0, 2, 3], [0, 0, 0]], dtype=torch.float64, requires_grad=True)
    zt, y = torch.tensor([[3.0, 1, 0], [0, 2, -2]], dtype=torch.float64), torch.tensor([0, 1])
    p = (zt / 3).softmax(1)
    published = F.cross_entropy(zs, y) + 4 * F.cross_entropy(zs / 3, p)
    assert published.item() == pytest.approx(6.44495903105, rel=1e-11)
    method = methods.FitNets()
    assert method.layers == () and not list(method.parameters())
    loss = method(Outputs(zs, {}), Outputs(zt, {}), y)
    entropy = -(p * p.log()).sum(1).mean()
    torch.testing.assert_close(loss, published - 4 * entropy)
    torch.testing.assert_close(*(torch.autograd.grad(x, zs)[0] for x in (loss, published)))
    method.set_epoch(288)
    later = F.cross_entropy(zs, y) + 1.8484848484848486 * F.cross_entropy(zs / 3, p)
    loss = method(Outputs(zs, {}), Outputs(zt, {}), y)
    torch.testing.assert_close(*(torch.autograd.grad(x, zs)[0] for x in (loss, later)))


S = torch.tensor([[1.0, 0], [0, 2], [3, 1], [-1, 1]], dtype=torch.float64)
T = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 2], [1, 1, 1]], dtype=torch.float64)
S2 = torch.tensor([[2.0, 0], [0, 1], [1, 1], [0, 0]], dtype=torch.float64)
T2 = torch.tensor([[0.0, 0, 0], [1, 1, 0], [0, 0, 1], [2, 1, 1]], dtype=torch.float64)


def test_irg_of_the_authors_layers():
    student = Outputs(S, {"embedding": S.clone().requires_grad_(), "a": S, "b": S2})
    teacher = Outputs(S, {"embedding": T, "a": T, "b": T2})
    options = {"vertex_weight": 0, "edge_weight": 0.005, "transform_weight": 0.005, "ce_weight": 0}
    method = methods.IRG(transforms=[("a", "b")], caffe=True, **options)
    terms = method.terms(student, teacher, None)
    assert terms["edges"].item() == pytest.approx(0.005 * 0.2160546875)
    assert terms["transformations"].item() == pytest.approx(0.005 * 0.6875)
    (gradient,) = torch.autograd.grad(terms["edges"], student.features["embedding"])
    assert (gradient[2] / 0.005).tolist() == pytest.approx([-0.028125, -0.009765625])


def test_irg_one_to_many():
    names = ("s", "squares", "reversed")
    student = Outputs(S, dict(zip(names, (S, S**2, S.flip(0)), strict=True)))
    method = methods.IRG(names, to_many="t", edge_weight=1, vertex_weight=0, ce_weight=0)
    assert method.layers == (*names, "t")
    value = method(student, Outputs(S, {"t": T}), None)
    assert value.item() == pytest.approx(0.324650366512, rel=1e-11)


@pytest.mark.parametrize(
    ("name", "options", "rows", "text"),
    [
        ("RKD", {}, 2, "RKD: a batch must have at least 3 rows, .*, got 2"),
        ("RKD", {"angle_weight": 0}, 1, "RKD: a batch must have at least 2 rows, .*, got 1"),
        *(
            (name, {}, 1, f"{name}: a batch must have at least 2 rows, .*, got 1")
            for name in ("CCKD", "HKD", "IRG", "PKT", "SP")
        ),
        (
            "CCKD",
            {"layer": "tokens"},
            6,
            r"'tokens' must be \(N, D\) or maps .* got shape \(6, 4, 2",
        ),
    ],
)
def test_batches_that_a_relation_cannot_use(name, options, rows, text):
    student, teacher, labels = batch(rows=rows)
    for side in (student, teacher):
        side.features["tokens"] = torch.randn(rows, 4, 2)
    with pytest.raises(ValueError, match=text):
        getattr(methods, name)(**options)(student, teacher, labels)


def test_what_is_missing():
    student, teacher, labels = batch()
    text = "AT: features must have the layer 'layer9', there are: 'early', 'middle', 'narrow'"
    with pytest.raises(ValueError, match=text):
        methods.AT("layer9")(student, teacher, labels)
    with pytest.raises(ValueError, match="there are: none"):
        methods.Hint("early").prepare(Outputs(student.logits, {}), teacher)
    for method in (methods.HintonKD(), methods.DKD(), methods.RKD(), methods.IRG()):
        with pytest.raises(ValueError, match="outputs of a teacher must be given, got None"):
            method(student, None, labels)
    assert methods.Labels()(student, None, labels) > 0
    with pytest.raises(ValueError, match="HintonKD: one weight at least must be above 0"):
        methods.HintonKD(ce_weight=0, kd_weight=0)(student, teacher, labels)
    with pytest.raises(ValueError, match="ce_weight > 0"):
        methods.Labels()(student, None, None)
    with pytest.raises(ValueError, match=r"VID: student must be \(N, C, H, W\) feature maps"):
        methods.VID("embedding").prepare(student, teacher)


@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("HintonKD", {"ce_weight": -1}, ValueError, "HintonKD: ce_weight must be finite and >= 0"),
        ("HintonKD", {"temperature": 0}, ValueError, "HintonKD: temperature"),
        ("DKD", {"warmup": -1}, ValueError, "DKD: warmup"),
        ("DKD", {"rest_weight": float("nan")}, ValueError, "DKD: rest_weight"),
        ("DIST", {"inter_weight": -1}, ValueError, "DIST: inter_weight"),
        ("StandardizedKD", {"eps": -1}, ValueError, "StandardizedKD: eps"),
        ("LogitMatching", {"weight": "1"}, TypeError, "LogitMatching: weight must be a number"),
        ("AT", {"p": 0.5}, ValueError, "at_loss: p"),
        ("AT", {"layers": ()}, ValueError, "AT: layers must name at least one layer"),
        ("AT", {"layers": {"x": -1}}, ValueError, r"AT: layers\['x'\]"),
        ("AT", {"layers": [1]}, TypeError, "AT: layers must be names, got int"),
        ("VID", {"variance": -1}, ValueError, "VID: variance"),
        ("FSP", {"pairs": ("ab", "cd")}, ValueError, "FSP: pairs must be pairs of layers"),
        ("FSP", {"pairs": ()}, ValueError, "FSP: pairs must hold at least one"),
        ("Hint", {"activation": "gelu"}, ValueError, "Hint: activation must be one of"),
        ("FitNets", {"reduction": "none"}, ValueError, "FitNets: reduction must be one of"),
        ("FitNets", {"hint_weight": -1}, ValueError, "FitNets: hint_weight"),
        ("RKD", {"distance_weight": -1}, ValueError, "RKD: distance_weight"),
        ("IRG", {"part": "both"}, ValueError, "IRG: part must be one of"),
        ("IRG", {"transforms": [("a",)]}, ValueError, "IRG: transforms must be pairs"),
        ("IRG", {"caffe": True, "to_many": "a"}, ValueError, "IRG: caffe has neither to_many"),
        ("CCKD", {"kernel": "rfb"}, ValueError, "cckd_loss: kernel must be one of"),
        ("CCKD", {"projection": 0}, ValueError, "CCKD: projection must be >= 1"),
        ("PKT", {"divergence": "js"}, ValueError, "pkt_loss: divergence must be one of"),
        ("HKD", {"kernels": ["rbf"]}, ValueError, "pkt_loss: kernel must be one of"),
        ("HKD", {"kernels": []}, ValueError, "kernels must hold at least one"),
        ("SP", {"pooling": "max"}, ValueError, "SP: pooling must be one of"),
    ],
)
def test_options_out_of_range(name, options, error, text):
    with pytest.raises(error, match=text):
        getattr(methods, name)(**options)


class Tiny(nn.Module):
    """Two convolutions and a classifier; smooth, for derivatives."""

    def __init__(self, width):
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(1, width, 2), nn.Tanh())
        self.middle = nn.Sequential(nn.Conv2d(width, width, 2), nn.Tanh())
        self.head = nn.Linear(4 * width, 3)

    def forward(self, x):
        return self.head(self.middle(self.early(x)).flatten(1))


class Both(nn.Module):
    def __init__(self, student, method):
        super().__init__()
        self.student, self.method = student, method

    def forward(self, images, answers, labels):
        return self.method(self.student(images), answers, labels)


NOT_LOSSES = ("Method", "Relation", "online", "specialists", "temperature_range")
EVERY = {name: {} for name in methods.__all__ if name not in NOT_LOSSES}
EVERY |= {
    "CCKD": {"projection": 3},
    "FSP": {"regress": True},
    "FitNets": {"hint_weight": 1.0},
    "Hint": {"activation": "tanh"},
    "IRG": {"transforms": [("early", "middle")]},
}


def at_work(name, dtype=torch.float32, rows=12):
    """A student's Tapped, a method made for it, and a batch with the teacher's answers."""
    torch.manual_seed(0)
    nets = [Tiny(width).to(dtype) for width in (2, 3)]
    method = getattr(methods, name)(**EVERY[name])
    layers = {x: "head:input" if x == "embedding" else x for x in method.layers}
    student, teacher = Tapped(nets[0], layers), Teacher(nets[1].eval(), layers)
    images = torch.randn(rows, 1, 4, 4, generator=generator(5), dtype=dtype)
    answers, labels = teacher(images), torch.arange(rows) % 3
    with torch.no_grad():
        method.prepare(student(images), answers)
    return student, method, (images, answers, labels)


@pytest.mark.parametrize("name", EVERY)
def test_derivative(name):
    student, method, inputs = at_work(name, torch.float64, rows=5)
    both = Both(student, method)
    names = [key for key, x in both.named_parameters() if x.requires_grad]

    def loss(*values):
        return functional_call(both, dict(zip(names, values, strict=True)), inputs)

    values = [both.get_parameter(key).detach().clone().requires_grad_() for key in names]
    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


@pytest.mark.parametrize("name", EVERY)
def test_a_loop_of_ones_own(name):
    student, method, (images, answers, labels) = at_work(name)
    before = {key: x.clone() for key, x in method.named_parameters()}
    optimizer = torch.optim.Adam([*student.parameters(), *method.parameters()], 1e-2)
    losses = []
    for _ in range(20):
        method.set_epoch(0)
        loss = method(student(images), answers, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    still = {key for key, x in method.named_parameters() if torch.equal(x, before[key])}
    assert still == ({"maps.1.weight", "maps.1.bias"} if name == "CCKD" else set())


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        (CriticalPeriod, {"initial": -1}),
        (CriticalPeriod, {"decay": float("nan")}),
        (CriticalPeriod, {"last": float("inf")}),
        (LinearDecay, {"initial": -1}),
        (LinearDecay, {"final": float("nan")}),
    ],
    ids=["initial", "decay", "last", "decay-initial", "decay-final"],
)
def test_schedules_out_of_range(schedule, options):
    with pytest.raises(ValueError, match=f"{schedule.__name__}: .* must be finite and >= 0, got"):
        schedule(**options)
