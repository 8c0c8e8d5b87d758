"""What identifies a vector space: capture it, compare it."""
