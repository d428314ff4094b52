"""The online methods on small nets: what they assemble, who learns what, what they log."""

import pytest
import torch
from torch import nn

from kdops import metrics
from kdops.methods import online
from kdops.nn import GeneralEnsembleWeights, linear_ensemble_weights

from .cases import generator

CLASSES, ROWS = 5, 16
LAYERS = {"branch": "middle", "embedding": "embedding"}
MAKE = {
    "DML": online.DML,
    "DML, three": lambda **o: online.DML(count=3, peer_reduction="sum", **o),
    "KDCL": lambda **o: online.KDCL(**{"own_images": False, **o}),
    "KDCL naive": lambda **o: online.KDCL(rule="naive", own_images=False, **o),
    "KDCL linear": lambda **o: online.KDCL(rule="linear", own_images=False, **o),
    "KDCL general": lambda **o: online.KDCL(rule="general", own_images=False, **o),
    "ONE": online.ONE,
    "CL": online.Collaborative,
    "CL, one fork": lambda **o: online.Collaborative(["branch"], fanout=[3], **o),
    "DCM": online.DCM,
    "OKDDip": lambda **o: online.OKDDip(reduction=2, **o),
    "OKDDip of nets": lambda **o: online.OKDDip(
        based="network", aggregate="probabilities", grad_to="attention", reduction=2, **o
    ),
}
TERMS = {"ONE": {"ensemble"}, "OKDDip": {"leader"}}
named = pytest.mark.parametrize("name", MAKE)


class Net(nn.Module):
    """A convolution, another, an embedding, a classifier."""

    def __init__(self):
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU())
        self.flat = nn.Flatten()
        self.embedding = nn.Linear(6 * 4, 8)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(8, CLASSES))

    def forward(self, images):
        return self.head(self.embedding(self.flat(self.middle(self.early(images)))))


def make_net(i):
    torch.manual_seed(i)
    return Net()


def batch():
    labels = torch.arange(ROWS) % CLASSES
    images = torch.randn((ROWS, 1, 4, 4), generator=generator())
    return images + labels[:, None, None, None], labels


def assembled(name, **options):
    """(method, group, images, labels), ready to train."""
    method, (images, labels) = MAKE[name](**options), batch()
    group = method.assemble(make_net, LAYERS)
    with torch.no_grad():
        method.prepare(group.eval()(images), None)
    return method, group.train(), images, labels


def parameters(*modules):
    return [x for module in modules for x in module.parameters()]


@named
def test_terms_are_the_loss(name):
    """In value and, the labels' alone, in gradient."""
    method, group, images, labels = assembled(name, ramp=None)
    peers = group(images)
    terms = method.terms(peers, None, labels)
    assert set(terms) == {"labels", "peers"} | TERMS.get(name.split()[0], set())
    assert [x.requires_grad for x in terms.values()] == [x == "labels" for x in terms]
    assert all(x.shape == () and x >= 0 for x in terms.values())
    assert method(peers, labels).item() == pytest.approx(sum(terms.values()).item(), rel=1e-6)
    ce = sum(nn.functional.cross_entropy(x, labels).item() for x in peers.logits)
    share = 0.5 if name.startswith("CL") else 1.0
    assert terms["labels"].item() == pytest.approx(share * ce, rel=1e-4)


@named
def test_everybody_learns(name):
    """Every weight has a gradient, and a few steps of it make labels and peers agree."""
    method, group, images, labels = assembled(name, ramp=2)
    optimizer = torch.optim.Adam(parameters(group, method), 1e-2)
    losses = []
    for epoch in range(30):
        method.set_epoch(epoch)
        loss = method(group(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not epoch:
            assert all(x.grad is not None for x in parameters(group, method))
    assert losses[-1] < 0.7 * losses[0]
    group.eval()
    logits = [group.peer(i)(images) for i in range(group.count)]
    for x in [*logits, method.eval().ensemble(group)(images), group.model(images)]:
        assert x.shape == (ROWS, CLASSES) and x.isfinite().all()
    assert metrics.peer_diversity(logits) < 0.5


@named
def test_weights_of_labels_and_peers(name):
    """No soft targets: the labels alone; no labels: the soft targets alone, by ramp and epoch."""
    method, group, images, labels = assembled(name, weight=0.0, ramp=None)
    terms = method.terms(group(images), None, labels)
    assert terms["peers"] == 0
    found = {}
    for epoch in (0, 40, 90):
        method, group, images, labels = assembled(name, ce_weight=0.0, ramp=80)
        method.set_epoch(epoch)
        found[epoch] = method.terms(group(images), None, labels)
        assert found[epoch]["labels"].abs() < 1e-5
    ratios = [(found[e]["peers"] / found[90]["peers"]).item() for e in (0, 40)]
    assert ratios == pytest.approx([0.0067379, 0.2865048], rel=1e-4)


def test_turns_of_dml():
    """Each net learns in its own turn alone, from what the others then say."""
    method, group, images, labels = assembled("DML", update="alternating")
    together, same, *_ = assembled("DML")
    assert (together.turns, method.turns, method.turn) == (1, 2, None)
    together(same(images), labels).backward()
    optimizer = torch.optim.SGD(group.parameters(), 0.1)
    for turn in range(method.turns):
        method.turn = group.active = turn
        optimizer.zero_grad()
        peers = group(images)
        loss = method(peers, labels)
        loss.backward()
        assert loss.item() == pytest.approx(method.loss(peers.logits, labels)[turn].item())
        slopes = [[x.grad for x in net.parameters()] for net in group.nets]
        assert all(x is not None for x in slopes[turn])
        assert all(x is None for x in slopes[1 - turn])
        theirs = [x.grad for x in same.nets[turn].parameters()]
        equal = all(map(torch.allclose, slopes[turn], theirs))
        assert equal == (turn == 0)  # the second has seen the first one's step
        optimizer.step()


@pytest.mark.parametrize("rule", ["general", "linear"])
def test_held_out_rows(rule):
    """KDCL's weights come from them, stay until the next call, and go with a checkpoint."""
    options = {"own_images": False, "fit_on": "held_out", "rule": rule, "nonneg": False}
    method, group, images, labels = assembled("KDCL", **options)
    assert method.held_out and method.ensemble_weights.tolist() == [0.5, 0.5]
    peers = group.eval()(images)
    before = method(peers, labels).item()
    for rows in (slice(0, 8), slice(8, 16)):
        logits = [x[rows].detach() for x in peers.logits]
        method.fit_held_out(logits, labels[rows])
        fit = GeneralEnsembleWeights(2, nonneg=False)
        fit.update(logits, labels[rows])
        linear = linear_ensemble_weights(logits, labels[rows])
        expected = fit.solve() if rule == "general" else linear
        assert torch.equal(method.ensemble_weights, expected)
    assert method(peers, labels).item() != before
    other = MAKE["KDCL"](**options)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.ensemble_weights, expected)
    assert not any(assembled(name)[0].held_out for name in ("KDCL", "KDCL linear", "ONE"))


def test_own_images():
    """KDCL's nets see views of their own; the stack of them is its input."""
    method = online.KDCL()
    group = method.assemble(make_net, {})
    images, labels = batch()
    assert group.own_images
    peers = group.eval()(torch.stack([images, images.flip(-1)]))
    assert torch.equal(peers.logits[1], group.peer(1)(images.flip(-1)))
    assert method(peers, labels).isfinite()


def test_what_is_assembled():
    dml, one, cl, dcm, okddip = (
        assembled(name)[1] for name in ("DML, three", "ONE", "CL", "DCM", "OKDDip")
    )
    assert [group.count for group in (dml, one, cl, dcm, okddip)] == [3, 3, 4, 2, 4]
    assert [group.deployed for group in (dml, one, cl, dcm, okddip)] == [0, 0, 0, 0, 3]
    assert dcm.groups == [0, 0, 0, 1, 1, 1]
    starts = [net.model.early[0].weight for net in dml.nets]
    assert not torch.equal(*starts[:2])
    net = make_net(0)
    for group in (one, cl, dcm):
        assert group.peer(0).state_dict().keys() == net.state_dict().keys()


def test_peers_in_processes_of_their_own():
    """Whole nets alone, to which the others are constants, all at once."""
    found = {name: make().separable for name, make in MAKE.items()}
    assert {name for name, x in found.items() if x} == {
        name for name in MAKE if name.startswith(("DML", "KDCL"))
    }
    assert not online.DML(update="alternating").separable
    assert not online.DML(detach_peers=False).separable
    assert not online.KDCL(detach_target=False).separable


def test_gated_ensemble():
    """sum_k g_k z_k, by the gate that was trained."""
    method, group, images, _ = assembled("ONE")
    method.eval(), group.eval()
    peers = group(images)
    gate = method.gates[0](peers.features["branch"])
    expected = sum(gate[:, k, None] * peers.logits[k] for k in range(3))
    torch.testing.assert_close(method.ensemble(group)(images), expected)


def test_okddip_attends_by_embeddings():
    """The attention learns where gradients go to it, and not where none do."""
    for grad_to, learns in (("all", True), ("attention", True), ("none", False)):
        method, group, images, labels = assembled("OKDDip", grad_to=grad_to, ramp=None)
        method(group(images), labels).backward()
        slopes = [x.grad for x in method.parameters()]
        assert all((x is not None and x.abs().max() > 0) == learns for x in slopes)


@pytest.mark.parametrize("name", ["ONE", "OKDDip"])
def test_unprepared(name):
    method = MAKE[name]()
    group = method.assemble(make_net, LAYERS)
    images, labels = batch()
    with pytest.raises(RuntimeError, match=r"call prepare\(student, teacher\) first"):
        method(group(images), labels)


def test_ones_branch_must_be_there():
    group = MAKE["DML"]().assemble(make_net, {})
    with pytest.raises(ValueError, match="features must have the layer 'branch'"):
        online.ONE().prepare(group(batch()[0]), None)


BAD = {
    "count must be >= 1": lambda: online.DML(count=0),
    "update must be one of": lambda: online.DML(update="random"),
    "peer_reduction must be one of": lambda: online.DML(peer_reduction="max"),
    "rule must be one of": lambda: online.KDCL(rule="best"),
    "fit_on must be one of": lambda: online.KDCL(fit_on="test"),
    "branches must be >= 1": lambda: online.ONE(branches=0),
    "beta must be in": lambda: online.Collaborative(beta=2.0),
    "fanout must have a number": lambda: online.Collaborative(fanout=[2]).assemble(
        make_net, LAYERS
    ),
    "mask must be 6 x 6": lambda: online.DCM(mask=[[0.0]]),
    "based must be one of": lambda: online.OKDDip(based="stem"),
    "peers must be >= 1": lambda: online.OKDDip(peers=0),
    "length must be >= 1": lambda: online.ONE(ramp=0),
    "weight must be finite and >= 0": lambda: online.DML(weight=-1.0),
}


@pytest.mark.parametrize("text", BAD)
def test_bad_options(text):
    with pytest.raises(ValueError, match=text):
        BAD[text]()


@pytest.mark.parametrize(
    "name", [x for x in online.__all__ if x not in ("Online", "Codistillation")]
)
def test_options_of_a_recipe(name):
    """Plain numbers, strings and lists: a recipe's options are the constructor's."""
    schema = pytest.importorskip("kdops.recipes.schema", reason="needs the extra kdops[train]")
    method = getattr(online, name)
    plain = {"temperature": 2.0, "weight": 0.5, "ce_weight": 1.0, "ramp": 8}
    model = schema.options_of(method)(**plain)
    assert method(**{key: getattr(model, key) for key in plain}).soft_weight() < 0.5
    with pytest.raises(ValueError, match="Extra inputs"):
        schema.options_of(method)(temperture=2.0)
