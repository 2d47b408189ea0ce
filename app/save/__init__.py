"""Save: the question while the model works, the answer after."""
