"""Turns robot datasets with text instructions into interleaved image-text instructions."""

__version__ = "0.1.0"
