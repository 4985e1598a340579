"""Shared look of the HTML reports and their figures."""
