"""The scoring engines, and the bundle that pins a model to everything it was trained with."""
