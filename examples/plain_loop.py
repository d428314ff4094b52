"""Distil in a plain PyTorch loop: labels, soft targets and RKD on the embedding.

    python examples/plain_loop.py [--quick]

A teacher learns from many labels. Two students with the same weights learn from a few: one alone,
one with the teacher's answers beside.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from kdops import Tapped, Teacher
from kdops.methods import RKD
from kdops.training.data import Part, few, load
from kdops.training.nets import make_net

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def fit(net: nn.Module, part: Part, loss_of: Callable, steps: int) -> tuple[float, float]:
    """Adam on loss_of(images, labels); the mean loss of the first and of the last tenth."""
    rows = TensorDataset(part.images, part.labels)
    loader = DataLoader(rows, batch_size=64, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    losses = []
    net.train()
    while len(losses) < steps:
        for images, labels in loader:
            loss = loss_of(images.to(DEVICE), labels.to(DEVICE))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            if len(losses) == steps:
                break
            schedule.step()
    first, *_, last = torch.stack(losses).chunk(10)
    return first.mean().item(), last.mean().item()


@torch.no_grad()
def accuracy(net: nn.Module, part: Part) -> float:
    answers: Tensor = net.eval()(part.images.to(DEVICE)).argmax(1)
    return 100 * (answers == part.labels.to(DEVICE)).float().mean().item()


def main(quick: bool) -> None:
    torch.manual_seed(0)
    data = load("digits" if quick else "mnist5k")
    labelled = few(data.pool, 100 if quick else 300, seed=0)
    steps = 40 if quick else 600

    teacher = make_net("teacher", data.classes, data.channels).to(DEVICE)
    alone, student = (make_net("student", data.classes, data.channels).to(DEVICE) for _ in "12")
    alone.load_state_dict(student.state_dict())
    labels_alone = nn.CrossEntropyLoss()
    fit(teacher, data.pool, lambda x, y: labels_alone(teacher(x), y), steps)
    fit(alone, labelled, lambda x, y: labels_alone(alone(x), y), steps)

    # Names of the layers are your networks' own; "fc:input" is what a layer is given.
    tapped = Tapped(student, {"embedding": "embedding"})
    taught = Teacher(teacher.eval(), {"embedding": "embedding"})  # asked without gradient
    method = RKD(kd_weight=0.9, ce_weight=0.1)
    first, last = fit(student, labelled, lambda x, y: method(tapped(x), taught(x), y), steps)

    scores = [accuracy(net, data.test) for net in (teacher, alone, student)]
    print(f"loss {first:.4f} -> {last:.4f}")
    print(
        "test accuracy: teacher {:.1f} %, labels alone {:.1f} %, distilled {:.1f} %".format(*scores)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds on a CPU")
    main(parser.parse_args().quick)
