"""What makes a store's names unguessable to whoever has not got it.

Keys of blocks, folders' and files' names all follow from it, so that nobody can compute from a
prompt under which name its KV would rest, and look whether it is there.
"""

import hmac
from dataclasses import dataclass

from semantic.domain.ids import AgentKey, Namespace, TenantId
from semantic.domain.stored_response import ResponseId

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, repr=False)
class StoreSecret:
    """The random bytes of one store.

    Raises:
        ValueError: if they are not `SECRET_BYTES`.
    """

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != SECRET_BYTES:
            raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(self.value)}")

    def __repr__(self) -> str:
        return "StoreSecret(...)"

    def chain_root(self, namespace: Namespace) -> str:
        """What all chains of a namespace begin with, in hex."""
        return self._mac("semantic/block-chain/2", namespace).hex()

    def salt(self, tenant: TenantId) -> bytes:
        """What tells a tenant's blocks from others' of the same tokens: 32 bytes."""
        return self._mac("semantic/tenant/1", tenant)

    def folder_name(self, namespace: Namespace) -> str:
        """How the folder of a namespace's blocks is called, in hex."""
        return self._mac("semantic/folder/1", namespace).hex()

    def agent_name(self, agent: AgentKey) -> str:
        """How the file of an agent's record is called, in hex."""
        return self._mac("semantic/agent/1", agent).hex()

    def response_name(self, tenant: TenantId, response: ResponseId) -> str:
        """How the file of a tenant's response is called, in hex."""
        return self._mac("semantic/response/1", f"{tenant}\0{response}").hex()

    def _mac(self, purpose: str, text: str) -> bytes:
        """HMAC-SHA256; no purpose holds a NUL, so that no two questions are the same bytes."""
        return hmac.digest(self.value, f"{purpose}\0{text}".encode(), "sha256")
