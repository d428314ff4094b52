"""Formulas that RepDistiller, mdistiller and Knowledge-Distillation-Zoo share, with a peer's
constants as arguments.

Where a peer gives its teacher a gradient, so do they. Half types are computed in float32.
"""
