# ruff: noqa: N802, N803
"""Knowledge-Distillation-Zoo's losses from their formulas, under their classes' names.

The zoo has no licence: what follows is written from the papers' formulas with the zoo's constants.
"""

import torch
import torch.nn.functional as F

from kdops.bench.published import correlations, distances

from . import published_zoos as zoos


def Logits(out_s, out_t):
    return F.mse_loss(out_s, out_t)


def SoftTarget(out_s, out_t, T=4.0):
    return zoos.kd(out_s, out_t, T)


def DML(out1, out2):
    return zoos.kd(out1, out2, 1.0)


def BSS(out_s, out_t, T=3.0):
    return zoos.kd(out_s, out_t, T) / T**2


def RKD(feat_s, feat_t, w_dist=25.0, w_angle=50.0):
    return zoos.rkd(feat_s, feat_t, w_dist, w_angle)


def PKTCosSim(feat_s, feat_t, eps=1e-6):
    return zoos.pkt(feat_s, feat_t, eps)


def SP(fm_s, fm_t):
    return zoos.similarity(fm_s, fm_t)


def CC(feat_s, feat_t, gamma=0.4, order=2):
    return F.mse_loss(correlations(feat_s, gamma, order), correlations(feat_t, gamma, order))


def edges(x):
    d = distances(x.flatten(1), squared=True)
    return d / d.max()


def transformation(first, second):
    if first.shape[2] > second.shape[2]:
        first = F.adaptive_avg_pool2d(first, second.shape[2:])
    if first.shape[1] < second.shape[1]:
        n, c, h, w = second.shape
        second = second.reshape(n, c // 2, 2, h, w).mean(2)
    change = (first - second).pow(2).sum((1, 2, 3))
    return change / change.max()


def IRG(irg_s, irg_t, vertices=0.1, edge=5.0, transform=5.0):
    errors = [F.mse_loss(edges(a), edges(b)) for a, b in zip(irg_s[:3], irg_t[:3], strict=True)]
    change = F.mse_loss(transformation(*irg_s[:2]), transformation(*irg_t[:2]))
    vertex = F.mse_loss(irg_s[3], irg_t[3])
    return vertices * vertex + edge * sum(errors) / 3 + transform * change


def attention_over_length(x, p):
    a = (x.abs() ** p).sum(dim=1)
    return a / (a.pow(2).sum((1, 2), keepdim=True).sqrt() + 1e-6)


def AT(fm_s, fm_t, p=2):
    return F.mse_loss(attention_over_length(fm_s, p), attention_over_length(fm_t, p))


def Hint(fm_s, fm_t):
    return F.mse_loss(fm_s, fm_t)


def NST(fm_s, fm_t):
    return zoos.nst(fm_s, fm_t, constant=False)


def FSP(fm_s1, fm_s2, fm_t1, fm_t2):
    return zoos.fsp((fm_s1, fm_s2), (fm_t1, fm_t2))


def FT(factor_s, factor_t):
    ours, theirs = (F.normalize(x.reshape(len(x), -1)) for x in (factor_s, factor_t))
    return (ours - theirs).abs().mean()


def AB(fm_s, fm_t, margin=1.0):
    return zoos.boundary(fm_s, fm_t, margin).mean()


def of_target(out, of, target):
    chosen = sum(row[label] for row, label in zip(out, target, strict=True))
    return torch.autograd.grad(chosen, of, create_graph=True)[0]


def Sobolev(out_s, out_t, img, target):
    ours, theirs = (F.normalize(of_target(x, img, target).flatten(1)) for x in (out_s, out_t))
    return F.mse_loss(ours, theirs.detach())


def LwM(out_s, fm_s, out_t, fm_t, target):
    def cam(out, layer):
        g = of_target(out, layer, target)
        return F.normalize(F.relu((g.mean((2, 3), keepdim=True) * g).sum(1)).flatten(1))

    return (cam(out_s, fm_s) - cam(out_t, fm_t).detach()).abs().mean()


def VID(module, fm_s, fm_t):
    return zoos.vid(module.regressor(fm_s), fm_t, module.alpha, 1e-6)


def OFD(module, fm_s, fm_t):
    negative = fm_t < 0
    count = negative.sum((0, 2, 3), keepdim=True)
    margin = (fm_t * negative).sum((0, 2, 3), keepdim=True) / (count + 1e-6)
    goal, student = torch.max(fm_t, margin), module.connector(fm_s)
    ignored = (student <= goal) & (goal <= 0)
    return ((student - goal) ** 2 * ~ignored).mean()


def AFD(module, fm_s, fm_t):
    weights = torch.sigmoid(module.attention(F.adaptive_avg_pool2d(fm_t, 1))[:, :, 0, 0])
    weights = weights / weights.sum(1, keepdim=True)
    ours, theirs = (x / (x.pow(2).sum((2, 3), keepdim=True).sqrt() + 1e-6) for x in (fm_s, fm_t))
    return (weights * (ours - theirs).pow(2).mean((2, 3))).sum() / len(fm_s)
