"""The training set: labels and point-in-time features, built and read."""
