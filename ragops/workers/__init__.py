"""Workers: one item's way from a claim to a stored vector, and the fleet that runs several of them."""
