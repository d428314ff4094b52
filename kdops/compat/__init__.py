"""Losses as published code has them where it differs from the formula; one module a code base."""

from . import caffe, kd_zoo, mdistiller, repdistiller

__all__ = ["caffe", "kd_zoo", "mdistiller", "repdistiller"]
