"""What a person starts. Only `bootstrap` names concrete adapters."""
