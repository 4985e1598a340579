"""A cloud assembly, deployed: resources made, functions registered."""
