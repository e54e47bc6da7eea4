"""Experiments: students compared on equal terms, and the best one sought under a budget."""
