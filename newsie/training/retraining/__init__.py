"""Retraining: from a newsroom's own file to a student that is at least as good as the one before."""
