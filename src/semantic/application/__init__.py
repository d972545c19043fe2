"""Orchestration: it decides with the domain and acts through ports, and knows no framework."""
