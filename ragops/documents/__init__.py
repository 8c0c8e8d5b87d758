"""Where texts come from: files and rows, their extraction, and their cutting into chunks."""
