"""Folders and lists of labelled videos to batches. Knows no networks."""
