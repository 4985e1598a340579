"""Past data read back: archived events and commits as features, vectors and rebuilt items."""
