"""What peers see: views of the same rows, and shards of other rows."""

import pytest
import torch

pytest.importorskip("lightning_fabric", reason="needs the extra kdops[train]")

from kdops.training.batches import Batches, Shards, UniformBatchSampler, disjoint
from kdops.training.data import Part

from .peer_methods import batches, part


def test_views_are_the_same_rows_with_other_shifts():
    single, three = batches(reach=1), batches(reach=1, views=3)
    for (images, labels), (views, same) in zip(single.steps(0, 5), three.steps(0, 5), strict=True):
        assert views.shape == (3, *images.shape) and torch.equal(labels, same)
        assert torch.equal(views[0], images)
        assert not torch.equal(views[0], views[1]) and not torch.equal(views[1], views[2])
    unmoved = next(batches(views=2).steps(0, 1))[0]
    assert torch.equal(unmoved[0], unmoved[1])


@pytest.mark.parametrize("kind", ["views", "rows"])
def test_batches_depend_on_seed_and_step_alone(kind):
    def made():
        if kind == "views":
            return batches(reach=1, views=2)
        return Shards([
            Batches(each, UniformBatchSampler(len(each), 5, 0), reach=1)
            for each in disjoint(part(), 2, 0)
        ])  # fmt: skip

    whole = list(made().steps(0, 7))
    for (images, labels), (again, same) in zip(whole[4:], made().steps(4, 7), strict=True):
        assert torch.equal(images, again) and torch.equal(labels, same)
    ranks = [list(made().steps(0, 7, rank, 2)) for rank in range(2)]
    for step, (images, labels) in enumerate(whole):
        mine = [rank[step] for rank in ranks]
        assert torch.equal(torch.cat([x for x, _ in mine], 1), images)
        assert torch.equal(torch.cat([y for _, y in mine], -1), labels)


def test_random_datasets_are_read_once_a_view():
    class Random(torch.utils.data.Dataset):
        def __getitem__(self, row):
            return torch.full((1, 2, 2), row + torch.rand(()).item() / 2), row % 4

        def __len__(self):
            return 20

    data = Part(Random(), torch.arange(20) % 4)
    images, _ = next(Batches(data, UniformBatchSampler(20, 8, 0), views=2).steps(0, 1))
    assert torch.equal(images[0].floor(), images[1].floor())
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("rows", [20, 23])
def test_shards_have_no_row_in_common(rows):
    data = part(rows)
    shards = disjoint(data, 3, 0)
    keys = [{tuple(x.flatten().tolist()) for x in shard.images} for shard in shards]
    assert all(len(key) == len(shard) == rows // 3 for key, shard in zip(keys, shards, strict=True))
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    for shard in shards:
        counts = torch.bincount(shard.labels, minlength=4)
        assert (counts - data.labels.bincount() / 3).abs().max() <= 1
    assert not torch.equal(disjoint(data, 3, 1)[0].images, shards[0].images)
