"""Losses as published code has them where it differs from the formula; one module a code base.

`kdops.compat.torchdistill` is there on import alone: it writes to torchdistill's registry.
"""

from . import caffe, kd_lib, kd_zoo, mdistiller, repdistiller

__all__ = ["caffe", "kd_lib", "kd_zoo", "mdistiller", "repdistiller"]
