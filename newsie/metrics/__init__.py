"""Metrics of predictions against gold labels, their calibration, and estimates with confidence intervals."""
