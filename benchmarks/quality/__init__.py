"""How good the models are on public data that anyone can fetch."""
