"""Pure values and decisions. Nothing here imports anything outside the standard library."""
