"""Generate: the model call and its deadlines."""
