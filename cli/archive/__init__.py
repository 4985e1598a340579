"""`candor archive …`: what is derived from the archive."""
