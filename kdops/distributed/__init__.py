"""Relational losses of a batch that is spread over the ranks of torch.distributed.

With gather='all' (the default process group) or a process group, features are gathered from all
ranks and each rank computes its own rows of every map, its own vertices of angles. Batches may be
uneven, or empty on some ranks.

Value: the loss of the whole batch, the same on every rank; for reduction 'none' the rank's rows.
Gradient: backward on all ranks gives each the gradient of the sum over ranks of their values, so
    world_size times the loss's gradient with respect to the rank's own rows. The average of
    DistributedDataParallel makes of it exactly the gradient of one process with the whole batch.
All ranks must call forward, and backward, in one order. Losses with distances are differentiable
once. Teachers get no gradient without teacher_grad.
"""

from .agreement import Gather, spread
from .global_batch import global_loss

__all__ = ["Gather", "global_loss", "spread"]
