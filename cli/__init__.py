"""The terminal program of the people who run the platform: `candor …`."""
