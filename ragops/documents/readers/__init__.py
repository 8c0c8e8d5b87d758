"""Readers of foreign formats, one file a format. They run in the parser's process only."""
