"""Rebuild and reset campaigns for embeddings in PostgreSQL/pgvector, embedded with llama-cpp-python."""

__version__ = "0.1.0"
