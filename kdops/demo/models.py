"""One small convolutional net; its three widths make the teacher or a student of it."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class Outputs(NamedTuple):
    logits: Tensor  # (rows, classes)
    embedding: Tensor  # (rows, hidden), before its ReLU


class Net(nn.Module):
    def __init__(self, first: int, second: int, hidden: int, classes: int = 10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
        )
        self.embed = nn.Linear(16 * second, hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Outputs:
        embedding = self.embed(self.features(images))
        return Outputs(self.head(F.relu(embedding)), embedding)


def teacher() -> Net:
    return Net(32, 64, 128)


def student() -> Net:
    return Net(4, 8, 32)


def missing_class_student() -> Net:
    return Net(8, 16, 32)
