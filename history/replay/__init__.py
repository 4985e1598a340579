"""Replay: feature vectors as they were served, decisions as they were made, and the causes of differences."""
