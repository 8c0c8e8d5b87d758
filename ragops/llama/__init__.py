"""llama.cpp behind a child process: builds, models and embeddings."""
