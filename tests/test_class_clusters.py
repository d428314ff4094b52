"""What a generalist's predictions have in common, and the clusters of classes found in it."""

import sys

import pytest
import torch

from kdops.methods.specialists import PredictionCovariance, class_clusters

from .cases import generator

TOY = torch.tensor(
    [
        [0.7, 0.2, 0.05, 0.05],
        [0.25, 0.65, 0.05, 0.05],
        [0.05, 0.05, 0.6, 0.3],
        [0.02, 0.08, 0.35, 0.55],
        [0.6, 0.3, 0.05, 0.05],
        [0.05, 0.05, 0.45, 0.45],
    ],
    dtype=torch.float64,
)


def close(value, expected, atol=1e-12):
    expected = torch.as_tensor(expected, dtype=value.dtype)
    torch.testing.assert_close(value, expected, rtol=0, atol=atol)


def moments(*batches) -> PredictionCovariance:
    statistics = PredictionCovariance(batches[0].shape[1])
    for batch in batches:
        statistics.update(batch)
    return statistics


def probabilities(*shape, seed=0, dtype=torch.float64):
    return (3 * torch.randn(shape, generator=generator(seed), dtype=torch.float64)).softmax(-1)


# ---- covariance --------------------------------------------------------------------------------


def test_covariance_of_the_toy():
    covariance = moments(TOY[:2], TOY[2:]).covariance()
    close(covariance[0], [0.090617, 0.023783, -0.058883, -0.055517], atol=5e-7)
    close(covariance[2], [-0.058883, -0.041117, 0.058417, 0.041583], atol=5e-7)


def test_covariance_against_torch():
    x = probabilities(50, 7)
    statistics = moments(*x.split([1, 20, 0, 29]))
    assert statistics.count == 50
    close(statistics.mean, x.mean(0))
    close(statistics.covariance(), torch.cov(x.T))
    close(statistics.covariance(unbiased=False), torch.cov(x.T, correction=0))
    close(statistics.correlation(), torch.corrcoef(x.T))
    close(statistics.co_prediction(), x.T @ x / 50)


def test_merged_is_one():
    x = probabilities(60, 5)
    parts = [moments(each) for each in x.split([10, 49, 1])]
    first, *others = parts
    for other in (*others, PredictionCovariance(5)):
        first.merge(other)
    close(first.covariance(), torch.cov(x.T))
    assert first.count == 60 and others[0].count == 49
    empty = PredictionCovariance(5)
    empty.merge(PredictionCovariance(5))
    empty.merge(first)
    assert torch.equal(empty.covariance(), first.covariance())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_sums_are_float64(dtype):
    """Of the rounded probabilities exactly: a half type's sum would stop growing."""
    x = probabilities(3000, 6).to(dtype)
    statistics = moments(*x.split(100))
    assert statistics.covariance().dtype == torch.float64
    close(statistics.covariance(), torch.cov(x.double().T))


def test_rare_classes_keep_their_digits():
    x = probabilities(400, 3) * 1e-9
    x = torch.cat([1 - x.sum(1, keepdim=True), x], 1)
    correlation = moments(*x.split(7)).correlation()
    centred = (x - x.mean(0))[:, 1:] * 1e9
    close(correlation[1:, 1:], torch.corrcoef(centred.T), atol=1e-10)


def test_constant_classes_correlate_with_none():
    x = torch.tensor([[0.1, 0.2, 0.7], [0.1, 0.4, 0.5], [0.1, 0.3, 0.6]], dtype=torch.float64)
    statistics = moments(*x.repeat(11, 1).split(7))
    assert statistics.scatter[0, 0] > 0, "of rounding alone"
    close(statistics.correlation(), [[0, 0, 0], [0, 1, -1], [0, -1, 1]])


def test_covariance_without_rows():
    statistics = PredictionCovariance(3)
    for ask in (statistics.covariance, statistics.correlation, statistics.co_prediction):
        with pytest.raises(RuntimeError, match=r"PredictionCovariance: needs more rows.*got 0"):
            ask()
    statistics.update(torch.ones(1, 3) / 3)
    with pytest.raises(RuntimeError, match="got 1"):
        statistics.covariance()
    assert not statistics.covariance(unbiased=False).any()


def test_input_is_no_graph():
    x = probabilities(4, 3).requires_grad_()
    assert not moments(x).covariance().requires_grad


# ---- clusters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", [False, True])
def test_clusters_of_the_toy(normalize):
    covariance = moments(TOY).covariance()
    assert class_clusters(covariance, 2, normalize=normalize) == [(0, 1), (2, 3)]


def blocks(*sizes):
    """A covariance of so many classes that go together."""
    return torch.block_diag(*(torch.ones(n, n) + 0.01 * torch.eye(n) for n in sizes))


def test_sizes_of_clusters():
    order = torch.randperm(10, generator=generator(0))
    covariance = blocks(1, 2, 3, 4)[order][:, order]
    found = class_clusters(covariance, 4)
    assert sorted(map(len, found)) == [2, 3, 4] and found == sorted(found)
    assert all(list(each) == sorted(each) for each in found)
    assert len({*sum(found, ())} | {int((order == 0).nonzero())}) == 10
    assert sorted(map(len, class_clusters(covariance, 4, smallest=1))) == [1, 2, 3, 4]
    assert sorted(map(len, class_clusters(covariance, 4, smallest=3))) == [3, 4]
    assert found == class_clusters(covariance, 4)


def test_largest_keeps_the_nearest_to_the_centre():
    covariance = blocks(4, 2)
    covariance[:4, 1] += 0.5  # column 1 is the outlier of its cluster
    assert class_clusters(covariance, 2) == [(0, 1, 2, 3), (4, 5)]
    assert class_clusters(covariance, 2, largest=3) == [(0, 2, 3), (4, 5)]


def test_normalize_finds_rare_classes():
    scale = torch.tensor([1.0, 1, 1, 1e-4, 1e-4, 1e-4, 1e-4, 1e-4])
    covariance = blocks(3, 3, 2) * scale * scale[:, None]
    assert class_clusters(covariance, 3, normalize=True) == [(0, 1, 2), (3, 4, 5), (6, 7)]
    assert class_clusters(covariance, 3) != [(0, 1, 2), (3, 4, 5), (6, 7)]


def test_clusters_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"^class_clusters: k-means needs .*kdops\[cluster\]"):
        class_clusters(torch.eye(3), 2)
