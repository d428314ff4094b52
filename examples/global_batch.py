"""The relation over the global batch: gather="all" under DDP and under FSDP2, the same line.

    torchrun --nproc-per-node 2 examples/global_batch.py [--fsdp] [--quick]

Every process has its share of each batch. A twin of the net learns beside, on the whole batch in
each process alone: losses and weights must stay the same. NCCL where each process has a GPU, Gloo
on CPUs otherwise.
"""

import argparse
import copy
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import kdops


class Net(nn.Module):
    """Logits and the embedding before them."""

    def __init__(self, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.body(x)
        return self.head(embedding.relu()), embedding


def objective(student: tuple, teacher: tuple, labels: Tensor, gather: str | None) -> Tensor:
    """Soft targets and labels, a mean over rows; and RKD, a relation between all rows.

    A process's mean is over its own rows: DDP's and FSDP's average of the gradients makes the mean
    of the batch of it, where shares are equal. With gather="all" RKD's value is that of the global
    batch, and the average of its gradients the gradient of that.
    """
    (logits, embedding), (soft, theirs) = student, teacher
    rows = kdops.kd_loss(logits, soft, labels, temperature=4, kd_weight=0.9, ce_weight=0.1)
    return rows + kdops.nn.RKDLoss(1, 2, gather=gather)(embedding, theirs)


def start() -> torch.device:
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if torch.cuda.device_count() < here:
        dist.init_process_group("gloo")
        return torch.device("cpu")
    torch.cuda.set_device(local)
    dist.init_process_group("nccl")
    return torch.device("cuda", local)


def spread(net: nn.Module, device: torch.device, fsdp: bool) -> nn.Module:
    if not fsdp:
        return DistributedDataParallel(net)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in (net.body, net.head, net):
        fully_shard(part, mesh=mesh)
    return net


def whole(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def mean(value: Tensor) -> float:
    """Of the processes' values: of equal shares' means, the batch's."""
    value = value.detach().clone()
    dist.all_reduce(value)
    return value.item() / dist.get_world_size()


def main(quick: bool, fsdp: bool) -> None:
    device = start()
    rank, world = dist.get_rank(), dist.get_world_size()
    steps, share, hidden = (10, 16, 16) if quick else (100, 64, 64)
    torch.manual_seed(0)  # the same net, teacher and batches in every process
    twin, teacher = Net(32, hidden, 10).to(device), Net(32, 4 * hidden, 10).to(device)
    net = spread(copy.deepcopy(twin), device, fsdp)
    optimizers = [torch.optim.SGD(x.parameters(), lr=0.1) for x in (net, twin)]

    for step in range(steps):
        x = torch.randn(share * world, 32).to(device)
        mine = slice(rank * share, (rank + 1) * share)
        with torch.no_grad():
            soft, theirs = teacher(x)
        labels = soft.argmax(1)

        ours = net(x[mine])
        loss = objective(ours, (soft[mine], theirs[mine]), labels[mine], gather="all")
        loss.backward()
        alone = objective(twin(x), (soft, theirs), labels, gather=None)
        alone.backward()
        with torch.no_grad():
            apart = objective(ours, (soft[mine], theirs[mine]), labels[mine], gather=None)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

        said = mean(loss), alone.item(), mean(apart)
        torch.testing.assert_close(said[0], said[1], rtol=1e-4, atol=0)
        if rank == 0 and step in (0, steps - 1):
            together = "loss: {} processes {:.6f}, one {:.6f}, without gather {:.6f}"
            print(together.format(world, *said))

    pairs = list(zip(map(whole, net.parameters()), twin.parameters(), strict=True))
    far = max((p - q).abs().max().item() for p, q in pairs)
    if rank == 0:
        kind, backend = "FSDP" if fsdp else "DDP", dist.get_backend()
        print(f"{kind} on {backend}, {steps} steps, weights: largest difference {far:.1e}")
    dist.destroy_process_group()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fsdp", action="store_true", help="fully_shard in place of DDP")
    parser.add_argument("--quick", action="store_true", help="a few seconds on CPUs")
    arguments = parser.parse_args()
    main(arguments.quick, arguments.fsdp)
