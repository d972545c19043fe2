"""What a script learns from a command's end."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
BAD_USAGE: Final = 2

HELP: Final = (
    "Exit codes: 0 done; 1 failed (the last line on stderr says why); 2 wrong usage or settings; "
    "128+N ended by signal N before anything was done."
)
