"""The two models that need no account: the script, and the small real one."""
