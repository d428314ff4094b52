"""The losses under their names in torchdistill's registry."""

from collections.abc import Iterable


def register(losses: Iterable[type]) -> None:
    """Put the classes in the place of torchdistill's own; without torchdistill do nothing."""
    try:
        import torchdistill  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torchdistill":
            raise
        return
    # mid_level first: it registers its own under the same names when it is imported.
    from torchdistill.losses import (  # type: ignore[import-untyped]
        mid_level,  # noqa: F401
        registry,
    )

    for loss in losses:
        registry.register_mid_level_loss(loss)
