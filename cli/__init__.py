"""Terminal program for the operators of the platform: `candor …`."""
