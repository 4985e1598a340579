"""`candor dataset …`: training sets."""
