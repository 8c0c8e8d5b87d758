"""Campaigns: plan, run, resume, undo."""
