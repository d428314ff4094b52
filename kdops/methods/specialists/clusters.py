"""Sets of classes that a generalist takes for one another."""

import torch
from torch import Tensor

from ... import _checks
from ..._kmeans import kmeans


def class_clusters(
    covariance: Tensor,
    clusters: int,
    *,
    seed: int = 0,
    smallest: int = 2,
    largest: int | None = None,
    normalize: bool = False,
) -> list[tuple[int, ...]]:
    """Sets of classes for specialists: k-means on the columns of a covariance.

    Args:
        covariance: (K, K) of the classes' probabilities, finite; see `PredictionCovariance`.
        clusters: of k-means, in 1..K.
        seed: of the starts of k-means.
        smallest: a smaller cluster is dropped.
        largest: of a larger cluster the classes nearest to its centre are kept; None: all.
        normalize: whether columns are first brought to length 1, which keeps rare classes from
            gathering around 0; a column of 0 stays.
    Returns:
        The sets, each ascending, in the order of their first classes; disjoint, and not every
        class need be in one.
    Raises:
        ImportError: without scikit-learn. TypeError, ValueError: for wrong types, shapes or
        ranges.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section
        5.3.

    >>> class_clusters(torch.eye(2).repeat_interleave(2, 0).repeat_interleave(2, 1), 2)
    [(0, 1), (2, 3)]
    """
    _checks.features("class_clusters", "covariance", covariance)
    if covariance.shape[0] != covariance.shape[1]:
        raise ValueError(
            f"class_clusters: covariance must be (K, K), got shape {tuple(covariance.shape)}"
        )
    _checks.integer("class_clusters", "smallest", smallest, 1)
    if largest is not None:
        _checks.integer("class_clusters", "largest", largest, smallest)
    columns = covariance.detach().cpu().double().T
    if normalize:
        columns = torch.nn.functional.normalize(columns, eps=torch.finfo(columns.dtype).tiny)
    label, centre = kmeans("class_clusters", "covariance", columns, clusters, seed)
    distance = (columns - centre[label]).norm(dim=1)
    sets = []
    for cluster in range(clusters):
        members = (label == cluster).nonzero()[:, 0]
        nearest = members[distance[members].argsort(stable=True)[:largest]]
        if len(members) >= smallest:
            sets.append(tuple(sorted(nearest.tolist())))
    return sorted(sets)
