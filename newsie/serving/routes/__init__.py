"""Routes, a file for each dialect."""
