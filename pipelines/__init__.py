"""Beam graphs, one a file."""
