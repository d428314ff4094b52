"""Hinton's distillation: soft targets beside the labels."""

from .method import Method


class Labels(Method):
    """The labels alone: what a method is compared with, and how a teacher is trained."""

    def __init__(self) -> None:
        super().__init__()


class HintonKD(Method):
    """ce_weight CE(labels) + kd_weight T^2 KL(teacher || student at temperature T).

    Args:
        ce_weight, kd_weight, temperature: see `kdops.kd_loss`; ce_weight = 0 is the soft targets
            alone, for data without labels or with labels that are not to be seen.
    Source: Hinton, Vinyals, Dean, 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """

    def __init__(self, *, ce_weight: float = 0.1, kd_weight: float = 0.9, temperature: float = 4.0):
        super().__init__(ce_weight=ce_weight, kd_weight=kd_weight, temperature=temperature)
