"""Constraints kept in all drawn rows, and conditions that drawn rows meet: post-processing of a finished model.

Nothing here sees a private row. What keeps constraints is in :mod:`synth.constraints.keeping`.
"""
