"""mdistiller's losses from their formulas, under their names in mdistiller/distillers/*.py."""

import torch
import torch.nn.functional as F

from . import published_zoos as zoos


def kd_loss(logits_student, logits_teacher, temperature):
    """KD.py: the sum over classes, the mean over what is left"""
    log_q = F.log_softmax(logits_student / temperature, dim=1)
    log_p = F.log_softmax(logits_teacher / temperature, dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def dkd_loss(logits_student, logits_teacher, target, alpha, beta, temperature):
    """DKD.py, the target's logit lowered by 1000 in the second part"""

    def parts(x):
        p = F.softmax(x / temperature, dim=1).gather(1, target[:, None])
        one = F.one_hot(target, x.shape[1])
        return torch.cat([p, 1 - p], dim=1), F.log_softmax(x / temperature - 1000 * one, dim=1)

    (b_s, rest_s), (b_t, rest_t) = parts(logits_student), parts(logits_teacher)
    first = (b_t * (b_t.log() - b_s.log())).sum()
    second = (rest_t.exp() * (rest_t - rest_s)).sum()
    return temperature**2 / len(target) * (alpha * first + beta * second)


def rkd_loss(f_s, f_t, squared=False, distance_weight=25, angle_weight=50):
    """RKD.py, its teacher under no_grad"""
    teacher = f_t.detach().flatten(1)
    return zoos.rkd(f_s.flatten(1), teacher, distance_weight, angle_weight, squared)


def pkt_loss(f_s, f_t, eps=1e-7):
    """PKT.py"""
    return zoos.pkt(f_s, f_t, eps)


def similarity_loss(f_s, f_t):
    """SP.py: one element"""
    return zoos.similarity(f_s, f_t).reshape(1)


def sp_loss(g_s, g_t):
    """SP.py"""
    return sum(similarity_loss(*pair) for pair in zip(g_s, g_t, strict=True))


def single_stage_at_loss(f_s, f_t, p):
    """AT.py"""
    return zoos.attention(f_s, f_t, p)


def at_loss(g_s, g_t, p):
    """AT.py"""
    return sum(zoos.attention(*pair, p) for pair in zip(g_s, g_t, strict=True))


def single_stage_nst_loss(f_s, f_t):
    """NST.py, the teacher's own kernel detached"""
    return zoos.nst(f_s, f_t, constant=True)


def nst_loss(g_s, g_t):
    """NST.py"""
    return sum(zoos.nst(*pair, constant=True) for pair in zip(g_s, g_t, strict=True))


def kdsvd_loss(g_s, g_t, k):
    """KDSVD.py, matrices (C H, W) in float32"""
    return sum(zoos.svd_layers(g_s, g_t, k, lambda x: x.flatten(1, 2).float()))


def vid_loss(regressor, log_scale, f_s, f_t, eps=1e-5):
    """VID.py"""
    ours, theirs = zoos.to_one_height(f_s, f_t)
    return zoos.vid(regressor(ours), theirs, log_scale, eps)


def feat_loss(source, target, margin):
    """OFD.py, by cases"""
    below = (source > margin) & (target <= margin)
    between = (source > target) & (target > margin) & (target <= 0)
    error = (source - margin) ** 2 * below
    error = error + (source - target) ** 2 * (between | (target > 0))
    return error.mean(dim=0).sum()


def hcl_loss(fstudent, fteacher):
    """ReviewKD.py"""
    total = 0.0
    for ours, theirs in zip(fstudent, fteacher, strict=True):
        errors, weights = [F.mse_loss(ours, theirs)], [1.0]
        for level in (4, 2, 1):
            if level < ours.shape[2]:
                pooled = [F.adaptive_avg_pool2d(x, (level, level)) for x in (ours, theirs)]
                errors.append(F.mse_loss(*pooled))
                weights.append(weights[-1] / 2)
        total = total + sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)
    return total
