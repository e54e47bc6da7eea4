"""Newsie: a multi-task news classifier."""
