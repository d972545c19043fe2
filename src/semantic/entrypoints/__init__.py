"""What a person starts. `bootstrap` wires the server; `offline` and `diagnosis` what needs none."""
