"""Protocols (PEP 544) between the application and the world. They carry no behaviour."""
