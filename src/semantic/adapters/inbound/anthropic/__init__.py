"""Anthropic's Messages API, to and from the domain's values."""
