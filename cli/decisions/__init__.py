"""`candor decisions …`: decisions that were made."""
