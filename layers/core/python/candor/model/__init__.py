"""The model room: the LightGBM engine, the bundle that pins a model to everything it was trained with, and its runs."""
