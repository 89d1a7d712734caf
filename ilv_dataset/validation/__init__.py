"""Reads a converted dataset back and says what is wrong with it, one line a fault."""

from ilv_dataset.validation.checks import validate_output
from ilv_dataset.validation.faults import Fault, Report

__all__ = ["Fault", "Report", "validate_output"]
