"""The edge: the server, the turn nursery, drain, and what every response carries."""
