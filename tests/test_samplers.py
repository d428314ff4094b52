"""Batches by groups and for specialists: their counts exactly, their uniformity by statistics."""

import sys
from collections import Counter

import numpy as np
import pytest
import torch

from kdops import samplers
from kdops.samplers import GroupUniformBatchSampler, HalfAndHalfBatchSampler

UNEVEN = torch.repeat_interleave(torch.arange(10), torch.tensor([5, 400, *[50] * 8]))


def sizes(batch, groups):
    """The groups of a batch, and how many examples of each."""
    return Counter(groups[batch].tolist())


@pytest.mark.parametrize(("per_group", "batch_size"), [(2, 16), (4, 16), (5, 20), (1, 10)])
def test_group_counts(per_group, batch_size):
    for batch in GroupUniformBatchSampler(UNEVEN, per_group, batch_size):
        assert len(batch) == len(set(batch)) == batch_size
        assert set(sizes(batch, UNEVEN).values()) == {per_group}


def test_last_group_is_cut_short():
    for batch in GroupUniformBatchSampler(UNEVEN, 5, 12):
        assert sorted(sizes(batch, UNEVEN).values()) == [2, 5, 5]
        assert UNEVEN[batch][10] == UNEVEN[batch][11]  # the last


def test_fewer_groups_than_a_batch_takes():
    groups = torch.arange(300) % 3
    for batch in GroupUniformBatchSampler(groups, 4, 32):  # 8 places for 3 groups
        assert sorted(sizes(batch, groups).values()) == [8, 12, 12]
        assert len(set(batch)) == 32


def test_a_small_group_is_drawn_with_replacement():
    groups = torch.tensor([0] * 2 + [1] * 50)
    batches = list(GroupUniformBatchSampler(groups, 8, 16, batches=200))
    for batch in batches:
        assert sizes(batch, groups) == {0: 8, 1: 8}
        assert len({i for i in batch if i >= 2}) == 8
    assert Counter(i for b in batches for i in b if i < 2)[0] == pytest.approx(800, abs=100)


def test_groups_are_any_integers_and_empty_ones_are_none():
    groups = torch.tensor([-7, 10**12] * 30)
    for batch in GroupUniformBatchSampler(groups, 2, 4):
        assert sizes(batch, groups) == {-7: 2, 10**12: 2}
    for same in (groups.numpy(), groups.tolist()):
        pair = (GroupUniformBatchSampler(each, 2, 4) for each in (groups, same))
        assert list(next(pair)) == list(next(pair))


def test_groups_are_uniform_whatever_their_sizes():
    """Each of 10 groups in 4 of 10 batches, and every example of a group alike."""
    count = Counter()
    sampler = GroupUniformBatchSampler(UNEVEN, 2, 8, batches=5000)
    for batch in sampler:
        count.update(batch)
    group = np.bincount(UNEVEN.numpy(), weights=[count[i] for i in range(len(UNEVEN))]) / 2
    # 5 standard deviations of a binomial with 5000 trials of 0.4; a sample by size would be 12.5
    assert np.abs(group - 2000).max() < 5 * np.sqrt(5000 * 0.4 * 0.6)
    of_the_large = np.array([count[i] for i in range(5, 405)])
    assert of_the_large.mean() == pytest.approx(10, abs=0.5)
    assert of_the_large.var() == pytest.approx(10, rel=0.35)  # Poisson, as independent draws are


def pairs_of_one_class(batch, groups) -> int:
    return sum(n * (n - 1) for n in sizes(batch, groups).values())


def test_expected_pairs_of_one_class():
    """64 of 4032 ordered pairs at 2 a class of 100; a random batch has 40 on average."""
    groups = torch.arange(10_000) % 100
    by_group = [
        pairs_of_one_class(b, groups) for b in GroupUniformBatchSampler(groups, 2, 64, batches=50)
    ]
    assert set(by_group) == {64}
    one = torch.zeros(10_000, dtype=torch.int64)
    at_random = [
        pairs_of_one_class(b, groups) for b in GroupUniformBatchSampler(one, 1, 64, batches=500)
    ]
    assert np.mean(at_random) == pytest.approx(64 * 63 / 100, abs=1.5)


def group_sampler(**options):
    return GroupUniformBatchSampler(UNEVEN, 2, 8, **options)


def half_sampler(**options):
    return HalfAndHalfBatchSampler(UNEVEN < 2, 8, **options)


MAKERS = {"group": group_sampler, "half": half_sampler}
each = pytest.mark.parametrize("name", MAKERS)


@each
def test_batches_depend_on_seed_epoch_and_rank_alone(name):
    make = MAKERS[name]
    first = list(make())
    sampler = make()
    torch.manual_seed(3)
    np.random.seed(3)
    assert list(sampler) == first == list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    others = [second, list(make(seed=1)), list(make(rank=1, world_size=2, batches=len(first)))]
    assert all(other != first for other in others) and others[0] != others[1] != others[2]
    sampler.set_epoch(0)
    assert list(sampler) == first


@each
def test_in_a_data_loader(name):
    sampler = MAKERS[name]()
    data = torch.utils.data.TensorDataset(torch.arange(len(UNEVEN)), UNEVEN)
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler)
    assert len(loader) == len(sampler)
    assert [index.tolist() for index, _ in loader] == list(sampler)


def test_length_of_an_epoch():
    assert len(GroupUniformBatchSampler(torch.zeros(100).long(), 2, 8)) == 13
    assert len(GroupUniformBatchSampler(torch.zeros(100).long(), 2, 8, world_size=4)) == 4
    assert len(GroupUniformBatchSampler(torch.zeros(100).long(), 2, 8, batches=3)) == 3
    inside = torch.arange(1000) < 100
    assert len(HalfAndHalfBatchSampler(inside, 8)) == 25
    assert len(HalfAndHalfBatchSampler(inside, 8, world_size=2)) == 13


@pytest.mark.parametrize(
    ("batch_size", "share", "amount"), [(8, 0.5, 4), (10, 0.3, 3), (4, 0.01, 1), (4, 0.99, 3)]
)
def test_halves(batch_size, share, amount):
    inside = torch.arange(1000) % 10 == 0
    sampler = HalfAndHalfBatchSampler(inside, batch_size, share=share)
    assert sampler.share == amount / batch_size
    for batch in sampler:
        assert len(set(batch)) == batch_size and inside[batch].sum() == amount


def test_the_rest_is_random():
    """Every example outside as often as any other, the same inside."""
    inside = torch.arange(100) < 10
    count = Counter(i for b in HalfAndHalfBatchSampler(inside, 16, batches=9000) for i in b)
    counts = np.array([count[i] for i in range(100)])
    for part, probability in ((counts[:10], 0.8), (counts[10:], 8 / 90)):
        spread = np.sqrt(9000 * probability * (1 - probability))
        assert np.abs(part - 9000 * probability).max() < 4.5 * spread


def test_superclasses():
    centres = torch.tensor([[0.0, 0], [8, 0], [0, 8]])
    label = torch.arange(60) % 3
    features = centres[label] + torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) / 4
    found = samplers.superclasses(features, 3)
    assert (
        found.dtype == torch.int64
        and len(set(zip(found.tolist(), label.tolist(), strict=True))) == 3
    )
    assert torch.equal(found, samplers.superclasses(features, 3))
    assert list(GroupUniformBatchSampler(found, 2, 4))


def test_superclasses_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"^superclasses: k-means needs .*kdops\[cluster\]"):
        samplers.superclasses(torch.randn(8, 2), 2)


G, H = "GroupUniformBatchSampler", "HalfAndHalfBatchSampler"
HALF = [True, False]
BAD = [
    (G, ([0.5, 1], 1, 1), {}, TypeError, "groups must be integers"),
    (G, ([True, False], 1, 1), {}, TypeError, "groups must be integers, got bool"),
    (G, ([[0, 1]], 1, 1), {}, ValueError, r"groups must be \(n,\), n >= 1, got shape \(1, 2\)"),
    (G, ([], 1, 1), {}, ValueError, r"groups must be \(n,\)"),
    (G, ([0, 1], 3, 2), {}, ValueError, r"per_group must be in 1\.\.2, got 3"),
    (G, ([0, 1], 0, 2), {}, ValueError, r"per_group must be in 1\.\.2, got 0"),
    (G, ([0, 1], 1, 2.0), {}, TypeError, "batch_size must be an int, got float"),
    (G, ([0, 1], 1, 2), {"batches": 0}, ValueError, "batches must be >= 1, got 0"),
    (G, ([0, 1], 1, 2), {"seed": -1}, ValueError, "seed must be >= 0, got -1"),
    (G, ([0, 1], 1, 2), {"seed": True}, TypeError, "seed must be an int, got bool"),
    (G, ([0, 1], 1, 2), {"rank": 1}, ValueError, r"rank must be in 0\.\.0, got 1"),
    (G, ([0, 1], 1, 2), {"world_size": 0}, ValueError, "world_size must be >= 1, got 0"),
    (H, ([0, 1], 2), {}, TypeError, "inside must be bool, got int64"),
    (H, ([True, True], 2), {}, ValueError, "inside must have examples on both sides"),
    (H, ([False], 2), {}, ValueError, "inside must have examples on both sides"),
    (H, (HALF, 1), {}, ValueError, "batch_size must be >= 2, got 1"),
    (H, (HALF, 2), {"share": 1.0}, ValueError, "share must be between 0 and 1, got 1.0"),
    (H, (HALF, 2), {"share": None}, TypeError, "share must be a number"),
    ("superclasses", (torch.ones(3, 2), 4), {}, ValueError, r"clusters must be in 1\.\.3, got 4"),
    ("superclasses", (torch.ones(3), 1), {}, ValueError, r"features must be \(N, D\)"),
    ("superclasses", (torch.ones(3, 2) / 0, 1), {}, ValueError, "features must be finite"),
]


@pytest.mark.parametrize(("name", "arguments", "options", "error", "text"), BAD)
def test_bad_arguments(name, arguments, options, error, text):
    with pytest.raises(error, match=f"^{name}: {text}"):
        getattr(samplers, name)(*arguments, **options)


def test_bad_epoch():
    with pytest.raises(ValueError, match=r"^GroupUniformBatchSampler: epoch must be >= 0, got -1"):
        group_sampler().set_epoch(-1)
