"""The verbs of a campaign, one per file; `registry` finds the one that runs a playbook's settings."""
