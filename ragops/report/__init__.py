"""What is shown, and nothing else: data go to stdout, progress and hints to stderr."""
