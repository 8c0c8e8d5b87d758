"""Measure vectors: numpy arrays in, figures and verdicts out, no I/O."""
