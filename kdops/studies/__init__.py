"""Runs that belong together, and what is written of them."""
