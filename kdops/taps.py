"""Features out of named layers of any model, without a change to it."""

import difflib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Outputs(NamedTuple):
    """What a network says of a batch: its logits, and what its tapped layers put out."""

    logits: Tensor
    features: dict[str, Tensor]


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The submodule of that name.

    Raises:
        ValueError: where there is none; the names nearest to it are listed.
    """
    layers = dict(model.named_modules())
    if name not in layers:
        near = difflib.get_close_matches(name, layers, n=5, cutoff=0.4) or list(layers)[1:6]
        raise ValueError(
            f"{type(model).__name__} has no layer {name!r}; near: {', '.join(map(repr, near))}"
        )
    return layers[name]


def classifier_of(model: nn.Module) -> str:
    """The name of the model's last linear layer, whose input is its embedding.

    Raises:
        ValueError: where the model has no linear layer.
    """
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer: name the layers to tap")
    return linear[-1]


def _check(value, layer: str) -> None:
    if value is None:
        raise RuntimeError(f"layer {layer!r} did not run in this pass of the model")
    if not isinstance(value, Tensor):
        raise TypeError(
            f"layer {layer!r} must give a tensor, got {type(value).__name__}; tap one inside it"
        )


class Tapped(nn.Module):
    """A model that also hands out what named layers compute; hooks do it, the model stays as it is.

    Args:
        model: any module whose output is logits, or has an attribute `logits`.
        layers: names as in `model.named_modules()`, or a mapping from names of your own to these;
            'name:input' is what the layer is given rather than what it puts out. A layer that runs
            several times in a pass gives its last value.
    Returns:
        `Outputs(logits, features)` when called, features by the names of `layers`.
    Raises:
        ValueError: for a name that the model has not, with those near to it. TypeError: for a layer
        whose value is not a tensor. RuntimeError: for a layer that did not run.

    `remove()`, or leaving a `with` block, takes the hooks away. torch.compile(tapped) traces
    through the hooks.

    >>> tapped = Tapped(model, {"middle": "layer3", "embedding": "fc:input"})
    >>> logits, features = tapped(images)
    """

    def __init__(self, model: nn.Module, layers: Iterable[str] | Mapping[str, str] = ()):
        super().__init__()
        names = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
        found = {key: find_layer(model, name.removesuffix(":input")) for key, name in names.items()}
        self.model, self.layers = model, names
        self._values: dict[str, Tensor] = {}
        self._hooks = [self._tap(key, found[key]) for key in names]

    def _tap(self, name: str, layer: nn.Module):
        def before(module, inputs):
            self._values[name] = inputs[0]

        def after(module, inputs, output):
            self._values[name] = output

        if self.layers[name].endswith(":input"):
            return layer.register_forward_pre_hook(before)
        return layer.register_forward_hook(after)

    def forward(self, *inputs, **options) -> Outputs:
        self._values.clear()
        output = self.model(*inputs, **options)
        features = dict(self._values)
        self._values.clear()  # no graph outlives the batch
        for name, layer in self.layers.items():
            _check(features.get(name), layer)
        return Outputs(getattr(output, "logits", output), features)

    def remove(self) -> None:
        """Take the hooks away; the model is as it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self.layers = [], {}

    def __enter__(self) -> "Tapped":
        return self

    def __exit__(self, *exception) -> None:
        self.remove()


class Teacher(Tapped):
    """A tapped model that is only asked: no gradient, evaluation mode.

    Raises:
        RuntimeError: when called while a part of the model is in training mode, where batch norm
        would follow the student's batches and dropout would make the answers random.

    >>> teacher = Teacher(model.eval(), ["layer3"])
    """

    def train(self, mode: bool = True) -> "Teacher":
        """Nothing: a loop that calls train() on everything leaves the teacher as it is."""
        return self

    @torch.no_grad()
    def forward(self, *inputs, **options) -> Outputs:
        training = [name or "the model" for name, m in self.model.named_modules() if m.training]
        if training:
            raise RuntimeError(
                f"the teacher is in training mode ({', '.join(training[:3])}): call teacher.eval()"
            )
        return super().forward(*inputs, **options)
