"""`candor features …`: feature views."""
