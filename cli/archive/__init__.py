"""`candor archive …`: tables and index derived from the archive."""
