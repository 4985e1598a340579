"""Model fitting: search, checkpoints, calibration."""
