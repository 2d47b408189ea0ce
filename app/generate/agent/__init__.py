"""The conversation agent's rules: pure functions of what a student said, behind every phase that a model may fail."""
