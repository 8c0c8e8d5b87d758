"""Vector indexes: which to drop and build, with what memory, and how they answer."""
