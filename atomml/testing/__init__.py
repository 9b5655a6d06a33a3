"""The conformance kit that any model must pass: laws by kind of model, and one function that runs them."""

from __future__ import annotations

from atomml.testing.conformance import run_conformance
from atomml.testing.laws import CheckResult, Law, Measurement, law

__all__ = ["CheckResult", "Law", "Measurement", "law", "run_conformance"]
