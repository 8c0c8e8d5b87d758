"""The command `ragops`: parse, call, render. Nothing heavy is imported before a command needs it."""
