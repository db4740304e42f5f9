"""Everything that knows Airflow: one operator per module, each a thin wrapper of one step of :mod:`synth.steps`."""
