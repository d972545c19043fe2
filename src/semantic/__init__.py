"""`semantic`: an inference server in which an agent's KV cache is a durable, named object."""

__version__ = "0.1.0"
