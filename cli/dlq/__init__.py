"""`candor dlq …`: messages that could not be processed."""
