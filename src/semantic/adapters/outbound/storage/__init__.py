"""The disk store: blocks and agents' records as files, and the lock of their folder."""
