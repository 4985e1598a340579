"""Measurements of the budgets: CPU of interleaved rounds over rotating rows, as ratios wherever possible."""
