"""Evaluation of a trained bundle: metrics, fairness, stability, leakage, profit."""
