"""Bulk classification: the predictions of a file of articles, written in resumable parts."""
