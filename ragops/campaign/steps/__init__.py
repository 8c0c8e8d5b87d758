"""The verbs of a campaign, one a file."""
