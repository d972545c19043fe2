"""OpenAI's Responses API, to and from the domain's values."""
