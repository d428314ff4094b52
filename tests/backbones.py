"""Small nets of several kinds, and the points at which they can be cut."""

import torch
from torch import nn
from torch.nn import functional as F

from kdops.training.nets import make_net


class Block(nn.Module):
    """Two convolutions and a skip connection, which writes in place."""

    def __init__(self, width):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.norm(self.conv2(self.relu(self.conv1(x)))))


class Residual(nn.Module):
    """A ResNet in little, with a skip from its first convolution to its last block."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Block(4), Block(4))
        self.drop = nn.Dropout(0.5)
        self.layer2 = nn.Sequential(Block(4), Block(4))
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        early = self.relu(self.conv(x))
        rows = x.size(0)
        x = self.drop(self.layer1(early))
        x = self.layer2(self.relu(x - 0.1))
        x = F.adaptive_avg_pool2d(x + early, 1).view(rows, -1)
        return self.fc(x)


class Mixer(nn.Module):
    """A transformer of MLPs: tokens with a position of their own, norms, and residual blocks."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.randn(16, 8))
        self.embed = nn.Linear(16, 8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
            for _ in range(3)
        )
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        x = self.embed(images.flatten(1).unflatten(1, (16, -1))) + self.position
        for block in self.blocks:
            x = x + block(x)
        return self.head(self.norm(x).mean(1))


def small(name):
    """(net, images, two points in order) of 'net', 'residual', 'mixer' or 'sequential'."""
    torch.manual_seed(0)
    images = torch.randn(6, 1, 16, 16)
    if name == "net":
        return make_net("student", 3, 1), images, ["middle", "embedding"]
    if name == "residual":
        return Residual(), images, ["layer2", "layer2.1"]
    if name == "mixer":
        return Mixer(), images, ["blocks.1", "norm"]
    layers = nn.Linear(256, 5), nn.ReLU(inplace=True), nn.BatchNorm1d(5), nn.Linear(5, 3)
    return nn.Sequential(nn.Flatten(), *layers), images, ["2", "4"]


NAMES = ["net", "residual", "mixer", "sequential"]
