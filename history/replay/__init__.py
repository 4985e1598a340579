"""Replay: feature vectors as served, decisions as made, and the causes of differences."""
