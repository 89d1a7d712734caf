"""A table-top robot simulation that writes the bundled dataset `ilv_demo`; needs pybullet."""

from ilv_dataset.simulation.dataset import simulate

__all__ = ["simulate"]
