"""Admit: the door and the gate in front of the model."""
