"""Reasons for declined applicants on public data, and their stability across retrained models."""
