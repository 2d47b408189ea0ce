"""What runs with no account and no network, held to the real wire."""
