"""Measured answers to questions about training; each has a document in docs/."""
