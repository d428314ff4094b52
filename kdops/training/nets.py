"""Networks by name: kdops' own small one, torchvision's and timm's, or a Python path."""

import importlib.util
from collections.abc import Callable
from types import MappingProxyType

import torch.nn.functional as F
from torch import Tensor, nn

from ..recipes.schema import python_object
from ..taps import classifier_of
from .resnet import ResNet

# first and second layer's channels, width of the embedding
WIDTHS = {
    "teacher": (32, 64, 128),
    "student": (4, 8, 32),
    "wide": (8, 16, 64),
    "missing": (8, 16, 32),
}


class Net(nn.Module):
    """Two convolutions and an embedding; the widths make a teacher or a student of it."""

    # the others have their own names; branches of one net begin at its last convolution
    LAYERS = MappingProxyType({"embedding": "embedding", "branch": "middle"})

    def __init__(self, first: int, second: int, hidden: int, classes: int = 10, channels: int = 1):
        super().__init__()
        self.early = _stage(channels, first)
        self.middle = _stage(first, second)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.embedding = nn.Linear(16 * second, hidden)  # as it is before the ReLU
        self.head = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        embedding = self.embedding(self.pool(self.middle(self.early(images))))
        return self.head(F.relu(embedding))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _from_library(name: str) -> Callable | None:
    """timm's or torchvision's constructor of that name, of whichever is installed."""
    if importlib.util.find_spec("timm"):
        import timm

        if timm.is_model(name):
            return lambda classes, channels: timm.create_model(
                name, num_classes=classes, in_chans=channels
            )
    if importlib.util.find_spec("torchvision"):
        from torchvision import models

        if name in models.list_models():
            return lambda classes, channels: models.get_model(name, num_classes=classes)
    return None


def make_net(name: str, classes: int, channels: int) -> nn.Module:
    """The network of a name, with fresh weights.

    Args:
        name: 'teacher', 'student', 'wide' or 'missing' (`Net` in four sizes), 'resnet', a name that
            timm or torchvision knows, or 'package.module:function', called as
            function(classes=classes).
    Raises:
        ValueError: for a name that none of them knows.
    """
    if name in WIDTHS:
        return Net(*WIDTHS[name], classes, channels)
    if name == "resnet":
        return ResNet(classes, channels)
    if ":" in name:
        return python_object(name)(classes=classes)
    make = _from_library(name)
    if make is None:
        raise ValueError(
            f"network {name!r} must be one of {', '.join(WIDTHS)}, resnet, a name of timm or "
            "torchvision (where installed), or 'package.module:function'"
        )
    return make(classes, channels)


def layers_of(net: nn.Module, wanted: tuple[str, ...], named: dict[str, str]) -> dict[str, str]:
    """From a method's names of layers to the network's own.

    `named` are a person's choices; without one, a network's `LAYERS`; 'embedding' is then what the
    last linear layer is given, and any other name that of a submodule.
    """
    own = {**getattr(net, "LAYERS", {}), **named}
    return {
        name: own.get(name) or (f"{classifier_of(net)}:input" if name == "embedding" else name)
        for name in wanted
    }
