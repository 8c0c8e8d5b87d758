"""A simulator of the campaign protocol: the real SQL and Python, a virtual clock, a seeded scheduler."""
