"""Ways out: engines, stores, the system clock, logs."""
