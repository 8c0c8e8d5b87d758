"""The embedder process and its client."""
