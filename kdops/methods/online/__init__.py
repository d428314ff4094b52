"""Methods without a teacher: peers that learn from each other."""

from .online import Online

__all__ = ["Online"]
