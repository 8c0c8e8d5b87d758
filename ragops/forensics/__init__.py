"""Measure what made stored vectors: which text, prefix and pooling, and whether there were several writers."""
