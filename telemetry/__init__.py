"""Telemetry: names, the stage clock, spans, metrics, logs. Imports nothing of app/."""
