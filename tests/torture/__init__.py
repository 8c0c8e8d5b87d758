"""The kill torture: campaigns under faults drawn from a seed, and an oracle of what they left behind."""
