"""`candor policy …`: decision tables before they serve."""
