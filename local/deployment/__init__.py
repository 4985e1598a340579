"""Deployment of a cloud assembly: creating resources, registering functions."""
