"""Bytes on disk to values and back."""
