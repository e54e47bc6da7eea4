"""Experiments that compare students on equal terms, and search for the best one within a budget."""
