"""Sabotaged variants of the program: each breaks one rule, and something must notice."""
