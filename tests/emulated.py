"""The ops of kdops for CPU tensors, computed by the CUDA kernels on the emulator."""

import os

import torch

from kdops.functional._maps import map_output
from kdops.functional._peers import Batch, peer_outputs
from kdops.functional._relations import relation_outputs
from kdops.functional._rows import row_outputs

from .simt import build

# Bytes that a block may have: a GPU's, or few, where rows of logits go in chunks.
SHARED_LIMIT = int(os.environ.get("SIMT_SHARED_LIMIT", 227 * 1024))
TEAMS = 32 * 1024
# Bytes that the maps of a relation may take: a GPU's, or none, where they are streamed.
MAP_BYTES = int(os.environ.get("SIMT_MAP_BYTES", 256 << 20))

missing = build.missing


def array(x):
    """A contiguous tensor's memory; half types are their bits."""
    if x is None:
        return None
    return (x.view(torch.uint16) if x.element_size() == 2 else x).numpy()


def inputs(*tensors):
    return [None if x is None else array(x.detach().resolve_neg().contiguous()) for x in tensors]


def name(x):
    return str(x.dtype).removeprefix("torch.")


def _logit_rows(student, teacher, target, loss, student_grad):
    rows = build.load("rows")
    value, gradient = row_outputs(student, loss[4], student_grad)
    flat = [x.reshape(-1, x.shape[-1]) for x in (student, teacher)]
    labels = None if target is None else target.reshape(-1)
    rows.logit_rows(
        name(student),
        rows.Loss(*loss),
        rows.Inputs(*inputs(*flat, labels)),
        rows.Outputs(array(value), array(gradient) if student_grad else None),
        rows.Limits(SHARED_LIMIT, TEAMS),
    )
    return value, gradient


def _kd_loss(
    student, teacher, target, temperature, soft, hard, reduction, ignore_index, student_grad
):
    loss = (temperature, soft, hard, False, reduction, ignore_index)
    return _logit_rows(student, teacher, target, loss, student_grad)


def _soft_cross_entropy(student, teacher, temperature, weight, reduction, student_grad):
    loss = (temperature, weight, 0.0, True, reduction, 0)
    return _logit_rows(student, teacher, None, loss, student_grad)


def _scale(gradient, upstream):
    build.load("rows").scale(name(gradient), array(gradient), *inputs(upstream))


def _rows_of_peers(batch, tensors):
    """Each peer's (rows, C), of the logits or of their gradients; None stays."""
    each = tensors[0] if batch.stacked and tensors[0] is not None else tensors
    each = [None] * batch.count if each[0] is None and batch.stacked else each
    return [None if x is None else x.reshape(-1, x.shape[-1]) for x in each]


def _peers(batch, target, loss, outputs, wanted):
    """The arguments of a kernel of peers: (loss, inputs, outputs, limits), and what is left of the
    outputs: the weights' gradient, or nothing."""
    peers = build.load("peers")
    losses, terms, *left = outputs
    left = iter(left)
    gradients = [next(left) if wanted >> i & 1 else None for i in range(len(batch.tensors))]
    labels = None if target is None else target.reshape(-1)
    arguments = (
        peers.Loss(*loss),
        peers.Inputs(inputs(*_rows_of_peers(batch, batch.tensors)), *inputs(labels)),
        peers.Outputs(
            array(losses), array(terms), list(map(array, _rows_of_peers(batch, gradients)))
        ),
        peers.Limits(SHARED_LIMIT, TEAMS),
    )
    return peers, arguments, next(left, None)


def _mutual_kl(logits, target, weights, ce_weights, temperature, soft, *rest):
    reduction, ignore_index, stacked, wanted = rest
    batch = Batch(tuple(logits), stacked)
    outputs = peer_outputs(batch, None, reduction, wanted, 2 * batch.count, True)
    loss = (ce_weights, temperature, soft, reduction, ignore_index)
    peers, arguments, _ = _peers(batch, target, loss, outputs, wanted)
    peers.mutual_kl(name(batch.first), *arguments, weights)
    return outputs


def _mixture_kl(logits, weights, target, ce_weights, temperature, soft, ensemble, *rest):
    rule, target_grad, reduction, ignore_index, stacked, wanted = rest
    batch = Batch(tuple(logits), stacked)
    targets = 1 if weights is None else weights.shape[-2]
    terms = 2 * batch.count + targets
    outputs = peer_outputs(batch, weights, reduction, wanted, terms, False)
    loss = (ce_weights, temperature, soft, reduction, ignore_index)
    peers, arguments, gradient = _peers(batch, target, loss, outputs, wanted)
    each = None if weights is None else weights if weights.dim() == 2 else weights.flatten(0, -3)
    slope = gradient if gradient is None or weights.dim() == 2 else gradient.flatten(0, -3)
    mixture = peers.Mixture(rule, target_grad, targets, ensemble, *inputs(each), array(slope))
    peers.mixture_kl(name(batch.first), *arguments, mixture)
    return outputs


def _relation(stem, both=True):
    """`both`: whether the op can give the teacher's gradient too."""

    def op(features, *arguments):
        *scalars, student_grad, teacher_grad = arguments if both else (*arguments, False)
        relations = build.load("relations")
        relations.keep_maps_up_to(MAP_BYTES)
        outputs = relation_outputs(features, student_grad, teacher_grad)
        left = iter(outputs[1:])
        wanted = [student_grad] * (len(features) - 1) + [teacher_grad]
        gradients = [array(next(left)) if want else None for want in wanted]
        getattr(relations, stem)(
            name(features[0]),
            inputs(*features),
            relations.Outputs(array(outputs[0]), gradients),
            *scalars,
        )
        return outputs

    return op


def _map(stem, dimensions):
    def forward(x, *scalars):
        out = map_output(x, dimensions)
        getattr(build.load("maps"), stem)(name(x), *inputs(x), None, array(out), *scalars)
        return out

    def backward(upstream, x, *scalars):
        out = x.new_empty(x.shape)
        arguments = (name(x), *inputs(x, upstream), array(out), *scalars)
        getattr(build.load("maps"), stem)(*arguments)
        return out

    return {f"_{stem}": forward, f"_{stem}_backward": backward}


RELATIONS = ("rkd_distance_loss", "rkd_angle_loss", "irg_edge_loss", "cckd_loss")
ROW_RELATIONS = ("pkt_loss", "sp_loss")
OPS = {
    "_kd_loss": _kd_loss,
    "_soft_cross_entropy": _soft_cross_entropy,
    "_scale_": _scale,
    "_mutual_kl": _mutual_kl,
    "_mixture_kl": _mixture_kl,
    **{f"_{stem}": _relation(stem) for stem in RELATIONS},
    **{f"_{stem}": _relation(stem, both=False) for stem in ROW_RELATIONS},
    **_map("pairwise_distance", 2),
    **_map("rbf_correlation", 2),
    **_map("triplet_angle", 3),
}
