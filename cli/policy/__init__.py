"""`candor policy …`: decision tables, and their releases."""
