"""Formulas that RepDistiller, mdistiller and Knowledge-Distillation-Zoo share, some of them with
torchdistill, with a peer's constants as arguments.

Where a peer gives its teacher a gradient, so do they. Half types are computed in float32.
"""
