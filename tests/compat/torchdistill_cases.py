"""A call of every class of kdops.compat.torchdistill, as torchdistill would make it.

A case draws what the hooked modules gave, of random sizes, and the arguments that name them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

LOGITS = ("fc", "output", "fc", "output")
EMBEDDINGS = ("embedding", "input", "embedding", "input")


class Draw:
    """Random sizes and numbers, the same for a seed in every type."""

    def __init__(self, seed: int, dtype: torch.dtype):
        self.generator, self.dtype = torch.Generator().manual_seed(seed), dtype
        self.rows, self.classes = self.size(5, 20), self.size(3, 12)

    def size(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=self.generator))

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        x = scale * torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return x.to(self.dtype).requires_grad_()

    def labels(self) -> Tensor:
        return torch.randint(self.classes, (self.rows,), generator=self.generator)


def outputs(**layers) -> dict:
    return {name: {"output": layer} for name, layer in layers.items()}


def logits(draw: Draw):
    return tuple(outputs(fc=draw.normal(draw.rows, draw.classes, scale=3)) for _ in range(2))


def logit_maps(draw: Draw):
    shape = draw.rows, draw.classes, draw.size(2, 5), draw.size(2, 5)
    return tuple(outputs(fc=draw.normal(*shape, scale=3)) for _ in range(2))


def embeddings(draw: Draw):
    """Of two widths."""
    return tuple({"embedding": {"input": draw.normal(draw.rows, draw.size(4, 30))}} for _ in "st")


def layers(*names: str, width: int | None = None):
    """Layers of one shape in both nets; of one width each in a layer of several."""

    def make(draw: Draw):
        shapes = {
            name: (draw.rows, width or draw.size(2, 9), draw.size(3, 8), draw.size(3, 8))
            for name in names
        }
        return tuple(
            outputs(**{name: draw.normal(*shape) for name, shape in shapes.items()}) for _ in "st"
        )

    return make


def flat(name: str):
    """Vectors of two widths."""
    return lambda draw: tuple(
        outputs(**{name: draw.normal(draw.rows, draw.size(4, 30))}) for _ in "st"
    )


def channels(name: str):
    """Maps with other channels, which the relations flatten."""
    return lambda draw: tuple(
        outputs(**{name: draw.normal(draw.rows, draw.size(2, 6), 3, 3)}) for _ in "st"
    )


def gaussians(draw: Draw):
    """A mean and a variance a channel against the teacher's map."""
    student, teacher = layers("block")(draw)
    raw = draw.normal(1, teacher["block"]["output"].shape[1], 1, 1)
    student["block"]["output"] = (student["block"]["output"], raw.exp())
    student["raw"] = {"output": raw}
    return student, teacher


def fused_map(draw: Draw):
    """Knowledge review's module gives a pair."""
    student, teacher = layers("block")(draw)
    student["block"]["output"] = (student["block"]["output"], None)
    return student, teacher


def transferred(student: str, teacher: str):
    def make(draw: Draw):
        shape = draw.rows, draw.size(2, 6), draw.size(2, 6)
        return outputs(**{student: draw.normal(*shape)}), outputs(**{teacher: draw.normal(*shape)})

    return make


def estimated(draw: Draw):
    width = draw.size(3, 20)
    student, teacher = (outputs(embedding=draw.normal(draw.rows, width)) for _ in "st")
    student["var_estimator"] = {"output": draw.normal(draw.rows, width)}
    return student, teacher


def contrasted(width: int, samples: int, negatives: int):
    """Rows of length 1 of both normalizers, and what the data set says of the samples."""

    def make(draw: Draw):
        nets = []
        for _ in "st":
            x = nn.functional.normalize(draw.normal(draw.rows, width).detach().double())
            nets.append(outputs(normalizer=x.to(draw.dtype).requires_grad_()))
        y = torch.randperm(samples, generator=draw.generator)[: draw.rows]
        idx = torch.randint(samples, (draw.rows, negatives + 1), generator=draw.generator)
        idx[:, 0] = y
        nets[0]["empty"] = {"input": {"pos_idx": y, "contrast_idx": idx}}
        return tuple(nets)

    return make


def self_supervised(draw: Draw):
    """Logits and self-supervision of images, each with three copies, the last perhaps with less."""
    found = []
    for _ in "st":
        logits = draw.normal(draw.rows, draw.classes, scale=2)
        found.append(outputs(fc=logits, ss_module=draw.normal(draw.rows, 6)))
    return tuple(found)


def both(*makers: Callable):
    def make(draw: Draw):
        made = [maker(draw) for maker in makers]
        return tuple({k: v for parts in made for k, v in parts[net].items()} for net in (0, 1))

    return make


@dataclass(frozen=True)
class Case:
    name: str  # of the class
    make: Callable
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    labels: bool = False
    double: float = 1e-9  # the tolerance in float64
    images: bool = False  # whether the labels are those of every fourth row

    def __str__(self) -> str:
        said = ", ".join(f"{key}={value}" for key, value in self.kwargs.items() if value != {})
        return f"{self.name}({said})" if len(said) < 60 else self.name


def pair(name: str = "block", weight: float = 2.5) -> dict:
    hook = {"path": name, "io": "output"}
    return {"student": hook, "teacher": hook, "weight": weight}


def pairs(**weights: float) -> dict:
    return {name: pair(name, weight) for name, weight in weights.items()}


def flow(first: str, second: str) -> dict:
    hooks = {"first": first, "second": second}
    found = {
        f"{net}_{place}": {"path": name, "io": "output"}
        for net in ("student", "teacher")
        for place, name in hooks.items()
    }
    return {"flow": found, "again": {**found, "weight": 0.5}}


RBF = {"type": "gaussian", "gamma": 0.05, "max_p": 2}
TWO = both(layers("one"), layers("two"))
NORMALIZERS = ("normalizer", "empty", "normalizer")
SSKD = ("fc", "fc", "ss_module", "ss_module", 4.0, 0.5, 3.0)
CASES = [
    Case("KDLoss", logits, LOGITS, {"temperature": 4.0, "alpha": 0.3}, labels=True),
    Case("KDLoss", logits, LOGITS, {"temperature": 2, "alpha": 0.5, "beta": 9.0}, labels=True),
    Case("KDLoss", logits, LOGITS, {"temperature": 4.0, "alpha": 0.0}, labels=True),
    Case("KDLoss", logits, LOGITS, {"temperature": 4.0, "alpha": None, "beta": 3.0}, labels=True),
    Case("KDLoss", logits, LOGITS, {"temperature": 4.0, "alpha": 0.5}),
    *(
        Case(
            name,
            logits,
            LOGITS,
            {"temperature": 3.0, "alpha": 0.5, "reduction": reduction},
            labels=True,
        )
        for name in ("KDLoss", "LogitStdKDLoss")
        for reduction in ("batchmean", "mean", "sum")
    ),
    Case("KDLoss", logits, LOGITS, {"temperature": 3.0, "alpha": 0, "reduction": "none"}),
    Case(
        "KDLoss",
        logits,
        LOGITS,
        {"temperature": 1.0, "alpha": 0.5, "label_smoothing": 0.1, "ignore_index": 1},
        labels=True,
    ),
    Case("KDLoss", logit_maps, LOGITS, {"temperature": 4.0, "alpha": 0}),
    Case("LogitStdKDLoss", logits, LOGITS, {"temperature": 2.0, "alpha": 0, "eps": 1e-3}),
    Case("DISTLoss", logits, LOGITS, {"beta": 2.0, "gamma": 0.5, "tau": 4.0}),
    Case("DISTLoss", logits, LOGITS, {"eps": 0.3}),
    Case(
        "DISTPlusLoss",
        both(logits, layers("block")),
        (*LOGITS, "block", "output", "block", "output"),
        {"iota": 0.7, "kappa": 1.3, "tau": 2.0},
    ),
    Case(
        "SRDLoss",
        both(logits, layers("block")),
        ("block", "output", "block", "output", *LOGITS),
        {"exponent": 4.0, "temperature": 2.0},
    ),
    Case("SKDInstanceLoss", logits, LOGITS, {"mode": "code"}),
    Case("SKDInstanceLoss", logits, LOGITS),
    Case("SKDDirectionLoss", logits, LOGITS, {"mode": "code"}),
    Case("SKDDirectionLoss", logits, LOGITS, {"tikhonov": 0.5}),
    Case("RKDLoss", channels("block"), ("block", "block", 1.0, 2.0, "mean")),
    Case("RKDLoss", flat("fc"), ("fc", "fc", 25, 50, "sum")),
    Case("RKDLoss", flat("fc"), ("fc", "fc", 1.0, 0, "none")),
    Case("RKDLoss", flat("fc"), ("fc", "fc", 0, 2.0, "none")),
    Case("CCKDLoss", flat("fc"), ("fc", "fc", RBF, "batchmean")),
    Case("CCKDLoss", flat("fc"), ("fc", "fc", {**RBF, "max_p": 3}, "sum")),
    Case("CCKDLoss", flat("fc"), ("fc", "fc", {"type": "bilinear"}, "batchmean")),
    Case("SPKDLoss", channels("block"), ("block", "block", "batchmean")),
    Case("SPKDLoss", flat("fc"), ("fc", "fc", "sum")),
    Case("PKTLoss", embeddings, EMBEDDINGS),
    Case("PKTLoss", embeddings, EMBEDDINGS, {"eps": 1e-3}),
    Case("ATLoss", TWO, (), {"at_pairs": pairs(one=1000.0, two=3)}),
    Case("ATLoss", TWO, (), {"at_pairs": pairs(one=1.0, two=3), "mode": "paper"}),
    Case("FSPLoss", both(layers("one", width=4), layers("two", width=6)), (flow("one", "two"),)),
    Case("VIDLoss", gaussians, (pairs(block=2.0),)),
    Case("AltActTransferLoss", TWO, (pairs(one=1.0, two=3), 0.4, "mean")),
    Case("AltActTransferLoss", TWO, (pairs(one=1.0, two=3), 0.4, "sum")),
    Case("ChSimLoss", TWO, (pairs(one=1.0, two=3),)),
    Case("HierarchicalContextLoss", fused_map, ("block", "output", "block", "output")),
    Case(
        "HierarchicalContextLoss",
        fused_map,
        ("block", "output", "block", "output", "sum"),
        {"output_sizes": [2, 1]},
    ),
    Case("KTALoss", transferred("feature_adapter", "paraphraser")),
    Case("KTALoss", transferred("feature_adapter", "paraphraser"), (2, 3, "sum")),
    Case("FTLoss", transferred("translator", "paraphraser")),
    Case("FTLoss", transferred("translator", "paraphraser"), (2,)),
    Case("FTLoss", transferred("translator", "paraphraser"), (1, "sum")),
    # torchdistill adds up in float32, whatever the type
    Case("AffinityLoss", layers("block"), ("block", "block"), double=1e-6),
    Case("AffinityLoss", layers("block"), ("block", "block"), {"reduction": "sum"}, double=1e-6),
    Case("PADL2Loss", estimated, ("embedding", "embedding")),
    Case("PADL2Loss", estimated, ("embedding", "embedding"), {"reduction": "sum"}),
    Case("CRDLoss", contrasted(8, 40, 5), (*NORMALIZERS, 8, 40, 5, 40)),
    Case(
        "CRDLoss",
        contrasted(5, 25, 12),
        (*NORMALIZERS, 5, 25, 12, 300),
        {"temperature": 0.3, "momentum": 0.8, "eps": 1e-3},
    ),
    Case("AuxSSKDLoss", self_supervised),
    Case(
        "AuxSSKDLoss",
        self_supervised,
        ("ss_module", "output", "sum"),
        {"label_smoothing": 0.1, "ignore_index": 1},
    ),
    Case("SSKDLoss", self_supervised, (*SSKD, 0.75, 1.0), labels=True, images=True),
    Case(
        "SSKDLoss",
        self_supervised,
        (*SSKD, 0.4, 0.6),
        {"loss_weights": [1.0, 0.9, 10.0, 2.7], "reduction": "mean"},
        labels=True,
        images=True,
    ),
    Case(
        "SSKDLoss",
        self_supervised,
        (*SSKD, 1.0, 0.3),
        {"loss_weights": [0.0, 0.0, 10.0, 2.7], "reduction": "sum"},
        labels=True,
        images=True,
    ),
    Case("RegularizationLoss", layers("block"), ("block",)),
    Case("RegularizationLoss", layers("block"), ("block", "output", True, 2)),
]
