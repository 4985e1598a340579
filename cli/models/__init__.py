"""`candor models …`: models over their life."""
