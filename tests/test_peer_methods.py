"""Each online method in the training loop, by its shipped recipe."""

import copy

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops.methods.online import Online
from kdops.recipes import reading
from kdops.recipes.schema import make_method, method_class
from kdops.training import loop
from kdops.training.batches import Batches, Shards, UniformBatchSampler, disjoint
from kdops.training.nets import layers_of, make_net

from .peer_methods import part

ONLINE = [
    name
    for name in reading.names()
    if issubclass(method_class(reading.read(name).phases[-1].method), Online)
]
ROWS, SIZE = 24, 8


def net(i):
    torch.manual_seed(i)
    return make_net("student", 4, 1)


def trained(recipe, steps=8, killed=None, **options):
    """A run of the recipe's method; `killed` is the step that is not reached."""
    torch.manual_seed(0)
    phase = reading.read(recipe).phases[-1]
    method = make_method(phase.method, phase.options)
    layers = layers_of(net(0), method.layers, {})
    group = method.assemble(net, layers)
    kind = {"reach": 1, "views": group.count if group.own_images else None}
    batches = Batches(part(ROWS), UniformBatchSampler(ROWS, SIZE, 0), **kind)
    if group.own_rows:
        rows = disjoint(part(ROWS), group.count, 0)
        batches = Shards([Batches(x, UniformBatchSampler(len(x), 4, 0), reach=1) for x in rows])
    before, set_step = copy.deepcopy(group.state_dict()), method.set_step

    def interrupted(step, group):
        if step == killed:
            raise KeyboardInterrupt
        set_step(step, group)

    method.set_step = interrupted
    settings = loop.Settings(steps=steps)
    progress = loop.fit(
        loop.make_fabric("cpu"), group, None, method, batches, settings, val=part(9), **options
    )
    return group, before, progress.history


@pytest.mark.parametrize("recipe", ONLINE)
def test_every_weight_of_every_peer_learns(recipe):
    group, before, history = trained(recipe)
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in history)
    for name, weight in group.named_parameters():
        assert not weight.requires_grad or not torch.equal(weight, before[name]), name
    answers = [loop.predict(group.peer(i), part(9)) for i in range(group.count)]
    assert not any(torch.equal(answers[0], other) for other in answers[1:])


@pytest.mark.parametrize("recipe", ONLINE)
def test_goes_on_bit_by_bit(recipe, tmp_path):
    """Copies of peers, weights of ensembles, gates: a checkpoint has all that a method keeps."""
    group, _, whole = trained(recipe, 40)
    path = tmp_path / "peers.ckpt"
    with pytest.raises(KeyboardInterrupt):
        trained(recipe, 40, killed=31, checkpoint=path)
    again, _, found = trained(recipe, 40, checkpoint=path)
    assert found == whole
    for ours, theirs in zip(again.parameters(), group.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_dropout_goes_on_bit_by_bit(tmp_path, monkeypatch):
    """The checkpoint's random numbers are those that the next step takes."""
    monkeypatch.setattr(
        torch.nn.Flatten, "forward", lambda self, x: torch.nn.functional.dropout(x.flatten(1))
    )
    _, _, whole = trained("dml", 40)
    path = tmp_path / "peers.ckpt"
    with pytest.raises(KeyboardInterrupt):
        trained("dml", 40, killed=31, checkpoint=path)
    assert trained("dml", 40, checkpoint=path)[2] == whole
