"""Sluice: publish a private dataset as differentially private synthetic data.

This package is the library. It never imports Airflow: every step of the workflow is a plain function in
:mod:`synth.steps`, usable from the command line, a notebook or an operator.
"""

__version__ = "0.1.0"
