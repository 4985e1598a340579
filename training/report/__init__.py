"""The report of a model: one HTML file that needs nothing beside itself."""
