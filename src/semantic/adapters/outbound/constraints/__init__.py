"""Answers held to a form: grammars of tools and schemas, as sets of tokens (llguidance)."""
