"""Features out of named layers of any model, without a change to it."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Outputs(NamedTuple):
    """What a network says of a batch: its logits, and what its tapped layers put out.

    Of K peers the logits are a tuple of K tensors, and a feature may be one.
    """

    logits: Any
    features: dict[str, Any]


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The submodule of that name.

    Raises:
        ValueError: where there is none; the names nearest to it are listed.
    """
    layers = dict(model.named_modules(remove_duplicate=False))
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


def _check(value: object, layer: str) -> None:
    if value is None:
        raise RuntimeError(f"layer {layer!r} did not run in this pass of the model")
    if not isinstance(value, Tensor):
        raise TypeError(
            f"layer {layer!r} must give a tensor, got {type(value).__name__}; tap one inside it"
        )


class _Tap:
    """The hook of one layer: it keeps a value while its own `Tapped` runs the model."""

    def __init__(self) -> None:
        self.open = False
        self.value: object = None

    def before(self, module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.keep(next(iter((*inputs, *options.values())), None))

    def after(self, module: nn.Module, inputs: object, output: object) -> None:
        self.keep(output)

    def keep(self, value: object) -> None:
        if self.open:  # a copy: what comes next may write in place, as nn.ReLU(inplace=True) does
            self.value = value.clone() if isinstance(value, Tensor) else value

    def close(self) -> object:
        value, self.open, self.value = self.value, False, None
        return value


class Tapped(nn.Module):
    """A model that also hands out what named layers compute; hooks do it, the model stays as it is.

    Args:
        model: any module whose output is logits, or has an attribute `logits`.
        layers: one name or several as in `model.named_modules()`, or a mapping from names of your
            own to these; 'name:input' is what the layer is given (its first argument) rather than
            what it puts out. A layer that runs several times in a pass gives its last value.
    Returns:
        `Outputs(logits, features)` when called, features by the names of `layers`. They are copies,
        so a layer that writes in place after a tapped one changes nothing.
    Raises:
        ValueError: for a name that the model has not, with those near to it. TypeError: for a layer
        or a model whose value is not a tensor. RuntimeError: for a layer that did not run.

    `remove()`, or leaving a `with` block, takes the hooks away. A copy of a `Tapped` reads its own
    model; a copy of the model has hooks that keep nothing. torch.compile(tapped) traces through
    the hooks.

    >>> tapped = Tapped(model, {"middle": "layer3", "embedding": "fc:input"})
    >>> logits, features = tapped(images)
    """

    def __init__(self, model: nn.Module, layers: str | Iterable[str] | Mapping[str, str] = ()):
        super().__init__()
        layers = (layers,) if isinstance(layers, str) else layers
        names = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
        found = [find_layer(model, name.removesuffix(":input")) for name in names.values()]
        self.model, self.layers = model, names
        self._taps = {name: _Tap() for name in names}
        self._handles = list(map(self._hook, names, found))

    def _hook(self, name: str, layer: nn.Module) -> RemovableHandle:
        tap = self._taps[name]
        if self.layers[name].endswith(":input"):
            return layer.register_forward_pre_hook(tap.before, with_kwargs=True)
        return layer.register_forward_hook(tap.after)

    def forward(self, *inputs: Any, **options: Any) -> Outputs:
        for tap in self._taps.values():
            tap.open = True
        try:
            output = self.model(*inputs, **options)
        finally:  # no graph outlives the batch
            features = {name: tap.close() for name, tap in self._taps.items()}
        for name, layer in self.layers.items():
            _check(features[name], layer)
        logits = getattr(output, "logits", output)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"{type(self.model).__name__} must give logits, or an output with the attribute "
                f"logits, got {type(output).__name__}"
            )
        return Outputs(logits, features)

    def remove(self) -> None:
        """Take the hooks away; the model is as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._taps, self.layers = [], {}, {}

    def __enter__(self) -> "Tapped":
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


class Teacher(Tapped):
    """A tapped model that is only asked: no gradient, evaluation mode.

    Raises:
        RuntimeError: when called while a part of the model is in training mode, where batch norm
        would follow the student's batches and dropout would make the answers random.

    >>> teacher = Teacher(model.eval(), ["layer3"])
    """

    def train(self, mode: bool = True) -> "Teacher":
        """Evaluation mode alone: a loop that calls train() on all leaves the teacher as it is."""
        return self if mode else super().train(False)

    @torch.no_grad()
    def forward(self, *inputs: Any, **options: Any) -> Outputs:
        training = [name or "the model" for name, m in self.model.named_modules() if m.training]
        if training:
            raise RuntimeError(
                f"the teacher is in training mode ({', '.join(training[:3])}): call teacher.eval()"
            )
        return super().forward(*inputs, **options)
