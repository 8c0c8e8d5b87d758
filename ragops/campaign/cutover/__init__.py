"""The second vector column's life: noted writes, drains, the cutover, the way back, and its end."""
