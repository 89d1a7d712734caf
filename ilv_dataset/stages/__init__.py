"""Thin Beam transforms; the logic is in the modules they call."""
