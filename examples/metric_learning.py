"""kdops beside pytorch-metric-learning (PML): as a distance, as a loss, and over processes.

    python examples/metric_learning.py [--quick]
    torchrun --nproc-per-node 2 examples/metric_learning.py

`KdopsDistance` serves PML's losses. `RelationalLoss` makes any relational loss of kdops one of
PML's, with the teacher's embeddings as ref_emb, so PML's wrappers take it. Under torchrun both go
through DistributedLossWrapper and are compared with one process that has the whole batch.
"""

import argparse
import copy

import torch
import torch.distributed as dist
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import BaseMetricLossFunction, TripletMarginLoss
from pytorch_metric_learning.utils.distributed import DistributedLossWrapper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import kdops
from kdops.training.data import Part, load


class KdopsDistance(LpDistance):
    """The Euclidean distance by kdops: direct differences, exact for near pairs, half types too."""

    def __init__(self, **options):
        super().__init__(**options)
        if self.p != 2:
            raise ValueError(f"KdopsDistance: p must be 2, got {self.p}")

    def forward(self, query_emb: Tensor, ref_emb: Tensor | None = None) -> Tensor:
        # PML's losses hand the batch over as its own reference: then one map is enough
        return super().forward(query_emb, None if ref_emb is query_emb else ref_emb)

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        if ref_emb is query_emb:
            return kdops.pairwise_distance(query_emb)
        both = kdops.pairwise_distance(torch.cat([query_emb, ref_emb]))
        return both[: len(query_emb), len(query_emb) :]


class RelationalLoss(BaseMetricLossFunction):
    """A relational loss of kdops, called as loss(student's embeddings, ref_emb=teacher's).

    In a DistributedLossWrapper the loss has gather=None: the wrapper gathers.
    """

    def __init__(self, loss: nn.Module, **options):
        super().__init__(**options)
        self.relation = loss

    def compute_loss(self, embeddings, labels, indices_tuple, ref_emb, ref_labels):
        value = self.relation(embeddings, ref_emb)
        return {"loss": {"losses": value, "indices": None, "reduction_type": "already_reduced"}}


def make_net(inputs: int, hidden: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, width)
    )


def fit(net: nn.Module, part: Part, loss_of, steps: int) -> list[float]:
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(part), (64,))
        loss = loss_of(part.images[rows], part.labels[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def recall(net: nn.Module, part: Part) -> float:
    """Recall@1: in per cent, the images whose nearest other image has the same label."""
    map = kdops.pairwise_distance(nn.functional.normalize(net(part.images)))
    nearest = map.fill_diagonal_(torch.inf).argmin(1)
    return 100 * (part.labels[nearest] == part.labels).float().mean().item()


def train(quick: bool) -> None:
    data, steps = load("digits" if quick else "mnist5k"), 60 if quick else 1000
    inputs = data.pool.images[0].numel()
    teacher, student = make_net(inputs, 256, 64), make_net(inputs, 16, 8)
    triplets = TripletMarginLoss(margin=0.2, distance=KdopsDistance())
    rkd, cckd = (RelationalLoss(x) for x in (kdops.nn.RKDLoss(1, 2), kdops.nn.CCKDLoss()))

    fit(teacher, data.pool, lambda x, y: triplets(teacher(x), y), steps)
    teacher.requires_grad_(False)

    def distil(images: Tensor, labels: Tensor) -> Tensor:
        ours, theirs = student(images), teacher(images)
        relations = rkd(ours, ref_emb=theirs) + cckd(ours, ref_emb=theirs)
        return triplets(ours, labels) + relations

    losses = fit(student, data.pool, distil, steps)
    scores = [recall(net, data.test) for net in (teacher, student)]
    print(f"loss {sum(losses[:10]) / 10:.4f} -> {sum(losses[-10:]) / 10:.4f}")
    print("recall@1 on test images: teacher {:.1f} %, distilled {:.1f} %".format(*scores))


def compare_processes(rows: int = 16) -> None:
    """Gradients of a net on the rows of each process, averaged by DDP, and of one process."""
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    images, theirs = torch.randn(rows * world, 64), torch.randn(rows * world, 32)
    labels, net = torch.arange(rows * world) % 4, make_net(64, 16, 8)
    twin, ddp = copy.deepcopy(net), DistributedDataParallel(net)
    triplets = TripletMarginLoss(distance=KdopsDistance())
    rkd = RelationalLoss(kdops.nn.RKDLoss(1, 2))

    mine = slice(rows * rank, rows * (rank + 1))  # as many rows as every other process
    ours = ddp(images[mine])
    spread = DistributedLossWrapper(triplets)(ours, labels[mine])
    spread = spread + DistributedLossWrapper(rkd)(ours, ref_emb=theirs[mine])
    spread.backward()
    whole = twin(images)
    alone = triplets(whole, labels) + rkd(whole, ref_emb=theirs)
    alone.backward()

    pairs = zip(net.parameters(), twin.parameters(), strict=True)
    apart = max((p.grad - q.grad).abs().max().item() for p, q in pairs)
    if rank == 0:  # the wrapper multiplies the value by the processes, for DDP's average
        print(f"loss: {world} processes {spread.item() / world:.6f}, one {alone.item():.6f}")
        print(f"gradients: largest difference {apart:.1e}")
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds on a CPU")
    quick = parser.parse_args().quick
    torch.manual_seed(0)
    compare_processes() if dist.is_torchelastic_launched() else train(quick)
