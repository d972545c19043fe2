"""Ways in: HTTP APIs translated to the neutral values of the domain."""
