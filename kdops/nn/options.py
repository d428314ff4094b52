"""A module that is a function with its options."""

from typing import TYPE_CHECKING, Any

import torch


class Options(torch.nn.Module):
    """Keyword arguments of a function, kept as plain attributes."""

    if TYPE_CHECKING:  # each option is its function's; nn.Module's answer is tensor or module

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._names = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.options().items())
