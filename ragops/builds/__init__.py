"""Builds of llama-cpp-python: compile them apart, read back what they are."""
