# ruff: noqa: N802, N803
"""RepDistiller's losses from their formulas, under their classes' names in distiller_zoo/*.py."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from . import published_zoos as zoos


def DistillKL(y_s, y_t, T=4.0):
    """KD.py"""
    return zoos.kd(y_s, y_t, T)


def RKDLoss(f_s, f_t, w_d=25, w_a=50):
    """RKD.py, its teacher under no_grad"""
    return zoos.rkd(f_s.flatten(1), f_t.detach().flatten(1), w_d, w_a)


def PKT(f_s, f_t):
    """PKT.py"""
    return zoos.pkt(f_s, f_t, 1e-7)


def Similarity(g_s, g_t):
    """SP.py: view(-1, 1).sum(0) gives one element"""
    return [zoos.similarity(*pair).reshape(1) for pair in zip(g_s, g_t, strict=True)]


def Correlation(f_s, f_t):
    """CC.py"""
    rows = [(a - b).abs() for a, b in zip(f_s, f_t, strict=True)]
    return sum(a @ b for a, b in pairwise(rows)) / (len(rows) - 1)


def HintLoss(f_s, f_t):
    """FitNet.py"""
    return F.mse_loss(f_s, f_t)


def Attention(g_s, g_t, p=2):
    """AT.py"""
    return [zoos.attention(*pair, p) for pair in zip(g_s, g_t, strict=True)]


def FactorTransfer(f_s, f_t, p1=2, p2=1):
    """FT.py"""
    ours, theirs = (zoos.signed_attention(x, p1) for x in zoos.to_one_height(f_s, f_t))
    difference = ours - theirs
    return difference.abs().mean() if p2 == 1 else (difference**p2).mean()


def NSTLoss(g_s, g_t):
    """NST.py, the teacher's own kernel detached"""
    return [zoos.nst(*pair, constant=True) for pair in zip(g_s, g_t, strict=True)]


def FSP(g_s, g_t):
    """FSP.py"""
    return [zoos.fsp(g_s[i : i + 2], g_t[i : i + 2]) for i in range(len(g_s) - 1)]


def KDSVD(g_s, g_t, k=1):
    """KDSVD.py, matrices (H W, C)"""
    return zoos.svd_layers(g_s, g_t, k, lambda x: x.flatten(2).transpose(1, 2))


def ABLoss(g_s, g_t, margin=1.0) -> list[Tensor]:
    """AB.py"""
    count = len(g_s)
    return [
        3 / 1000 * 2.0 ** (i - count + 1) * zoos.boundary(*pair, margin).sum() / len(g_s[0])
        for i, pair in enumerate(zip(g_s, g_t, strict=True))
    ]


def VIDLoss(module, input, target):
    """VID.py, with the weights of a module"""
    ours, theirs = zoos.to_one_height(input, target)
    return zoos.vid(module.regressor(ours), theirs, module.log_scale, 1e-5)
