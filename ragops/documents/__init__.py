"""Documents: find files, extract their text, and split it into chunks."""
