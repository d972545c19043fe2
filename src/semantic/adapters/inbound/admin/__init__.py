"""Administration: what is remembered, and having it forgotten."""

from semantic.adapters.inbound.admin.router import AdminAccess, admin_router

__all__ = ["AdminAccess", "admin_router"]
