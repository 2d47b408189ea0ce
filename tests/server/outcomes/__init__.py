"""Turns that are made to end in every way there is, and what judges the telemetry that they leave."""
