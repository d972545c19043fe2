"""Settings and where each of them came from."""
