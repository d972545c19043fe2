"""Who is let in: the API keys as a running server knows them.

A thread of its own looks at them again and again, so that no request waits for a disk and every
change counts within a second. Once a key was needed, one is needed until the server ends: neither
revoking the last nor losing the file opens a door. Keys that cannot be read let nobody in.
"""

import threading

from semantic.domain.api_key import ApiKey, matching
from semantic.ports.api_keys import ApiKeys
from semantic.ports.telemetry import Telemetry

LOOK_EVERY_S = 0.5
"""A created or revoked key counts after twice that at most."""


class Access:
    """The keys of `kept`. `needed`: one is needed even if there is none.

    Raises:
        CachePersistenceError: if they cannot be read at the start.
    """

    def __init__(self, kept: ApiKeys, telemetry: Telemetry, *, needed: bool = False) -> None:
        self._kept = kept
        self._telemetry = telemetry
        self._keys = kept.all()
        self._needed = needed or bool(self._keys)
        self._readable = True
        self._over = threading.Event()

    @property
    def open(self) -> bool:
        """Whether everybody is let in."""
        return not self._needed

    @property
    def readable(self) -> bool:
        """Whether the keys could be read when they were last looked at."""
        return self._readable

    def key(self, offered: str) -> ApiKey | None:
        """The key with this text; None if there is none, as far as anybody knows."""
        return matching(self._keys, offered)

    def look(self) -> None:
        """Look at the keys as they are now."""
        try:
            found = self._kept.all()
        except Exception as error:  # noqa: BLE001 - whatever it is, the keys are not known
            # Closed first: what is known may have been revoked.
            self._keys, self._needed = (), True
            if self._readable:
                self._readable = False
                self._telemetry.error("keys_not_readable", detail=str(error))
            return
        self._needed = self._needed or bool(found)
        if found != self._keys or not self._readable:
            self._telemetry.info("keys_read", keys=len(found))
        self._keys, self._readable = found, True

    def start(self) -> None:
        """Look every half second, until closed."""
        threading.Thread(target=self._look_on, name="keys", daemon=True).start()

    def close(self) -> None:
        """Look no more. Waits for nobody: a disk may hang."""
        self._over.set()

    def _look_on(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            self.look()
