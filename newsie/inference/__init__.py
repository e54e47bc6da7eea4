"""Classification with a student: sessions, predictions, explanations and cascades."""
