"""What was: the archive of events and the log of commits, read back as features, vectors and new items."""
