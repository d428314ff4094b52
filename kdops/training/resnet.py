"""A small residual network, for peers with more room than kdops' student."""

from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)  # of the stages; each halves height and width


class Block(nn.Module):
    """Two convolutions around a skip connection; where the shape changes a 1 x 1 one is on it."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3, 1)
        same = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.skip(x))


class ResNet(nn.Module):
    """Three stages of a block each: 78 000 weights, 16 times as many as the student has.

    Source: He, Zhang, Ren, Sun, 2016, "Deep Residual Learning for Image Recognition", section 4.2,
        with a block a stage, and a first convolution that halves height and width as well.
    """

    LAYERS = MappingProxyType({"embedding": "pool", "branch": "late"})

    def __init__(self, classes: int = 10, channels: int = 1):
        super().__init__()
        first, second, third = WIDTHS
        self.stem = _convolution(channels, first, 3, 2)
        self.early = Block(first, first, 1)
        self.middle = Block(first, second, 2)
        self.late = Block(second, third, 2)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(third, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.early(F.relu(self.stem(images)))
        return self.head(self.pool(self.late(self.middle(x))))


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
    )
