"""k-means of scikit-learn, an optional extra that is imported where it is called."""

import importlib

import torch
from torch import Tensor

from . import _checks

RESTARTS = 10


def kmeans(function: str, name: str, x: Tensor, clusters: int, seed: int) -> tuple[Tensor, Tensor]:
    """The cluster of every row of x, (N,), and the clusters' centres, (clusters, D)."""
    _checks.features(function, name, x)
    _checks.integer(function, "clusters", clusters, 1, len(x))
    _checks.integer(function, "seed", seed)
    if not x.isfinite().all():
        raise ValueError(f"{function}: {name} must be finite")
    try:
        cluster = importlib.import_module("sklearn.cluster")
    except ImportError as error:
        remedy = 'python -m pip install "kdops[cluster]"'
        raise ImportError(f"{function}: k-means needs scikit-learn: {remedy}") from error
    x = x.detach().cpu()
    points = (x if x.dtype == torch.float64 else x.float()).numpy()
    found = cluster.KMeans(clusters, n_init=RESTARTS, random_state=seed).fit(points)
    return torch.from_numpy(found.labels_).long(), torch.from_numpy(found.cluster_centers_)
