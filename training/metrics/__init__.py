"""Metrics of scores: ranking, calibration, drift."""
