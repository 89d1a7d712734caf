"""Trains the embedded detector and segmenter on the simulation; needs pybullet and torch."""
