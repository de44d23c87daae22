"""Explanations as pictures, videos, arrays and words."""
