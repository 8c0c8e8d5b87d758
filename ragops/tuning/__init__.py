"""Measure shapes of the fleet and keep the fastest."""
