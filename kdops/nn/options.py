"""A module that is a function with its options."""

import torch


class Options(torch.nn.Module):
    """Keyword arguments of a function, kept as plain attributes."""

    def __init__(self, **options):
        super().__init__()
        self._names = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def options(self) -> dict:
        return {name: getattr(self, name) for name in self._names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options().items())
