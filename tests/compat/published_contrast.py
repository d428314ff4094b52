# ruff: noqa: N802
"""CRD's classes of RepDistiller and mdistiller from their formulas, a sample and a row at a time.

A memory is a dict of the buffers; what a batch makes of it is returned, not written.
"""

import torch
from torch import Tensor


def length_one(x: Tensor, power: float = 2) -> Tensor:
    return x / (x**power).sum(1, keepdim=True) ** (1 / power)


def Normalize(x, power=2):
    return length_one(x, power)


def Embed(weight, bias, x):
    return length_one(torch.einsum("ni,oi->no", x.reshape(len(x), -1), weight) + bias)


def ContrastLoss(x, samples, eps=1e-7):
    """NCE: the posterior of data against K noise samples, each of probability 1 / samples."""
    total = 0.0
    for row in x.reshape(len(x), -1):
        noise = (len(row) - 1) / samples
        total = total - torch.log(row[0] / (row[0] + noise + eps))
        for p in row[1:]:
            total = total - torch.log(noise / (p + noise + eps))
    return (total / len(x)).reshape(1)


def ContrastMemory(memory: dict, v1, v2, y, idx):
    """(both ratios, the memory after the batch)"""
    _, temperature, z1, z2, momentum = memory["params"].tolist()

    def scores(v, bank):
        rows = [
            torch.stack([torch.exp((a * bank[int(j)]).sum() / temperature) for j in line])
            for a, line in zip(v, idx, strict=True)
        ]
        return torch.stack(rows)[:, :, None]

    after = {name: x.clone() for name, x in memory.items()}
    out1, out2 = scores(v1, memory["memory_v2"]), scores(v2, memory["memory_v1"])
    for place, z, out in ((2, z1, out1), (3, z2, out2)):
        if z < 0:
            after["params"][place] = out.detach().mean() * len(memory["memory_v1"])
    for name, v in (("memory_v1", v1), ("memory_v2", v2)):
        for n, j in enumerate(y):
            row = momentum * memory[name][j] + (1 - momentum) * v[n].detach()
            after[name][j] = row / (row @ row) ** 0.5
    z1, z2 = after["params"][2:4].tolist()
    return (out1 / z1, out2 / z2), after


def CRDLoss(embeds: list, memory: dict, samples, f_s, f_t, idx, contrast_idx):
    """(the loss, the memory after the batch); embeds are (weight, bias) of student and teacher"""
    v1, v2 = (Embed(*pair, x) for pair, x in zip(embeds, (f_s, f_t), strict=True))
    ratios, after = ContrastMemory(memory, v1, v2, idx, contrast_idx)
    return sum(ContrastLoss(x, samples) for x in ratios), after


def AliasMethod(prob: Tensor, alias: Tensor, count: int):
    """Draws from the tables, with torch's generator as the peers use it."""
    chosen = torch.zeros(count, dtype=torch.long).random_(0, len(prob))
    stays = torch.bernoulli(prob[chosen])
    return torch.stack([i if b else alias[i] for i, b in zip(chosen, stays, strict=True)])
