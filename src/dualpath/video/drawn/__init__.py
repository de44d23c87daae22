"""Labelled clips that the project draws itself."""
