"""Everything that touches a library, a file or a socket. Adapters do not import each other."""
