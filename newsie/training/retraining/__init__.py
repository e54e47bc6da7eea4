"""Retraining of a student on a newsroom's own file, with a check that the new one is no worse."""
