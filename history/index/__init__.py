"""Index of the archive by owner: reads one entity's events and one item's commits without scanning the archive."""
