"""Whose certificates are believed: one TLS context per authority, because making one takes 20 ms."""

import asyncio
import ssl

_MOST_CONTEXTS = 64


class Trust:
    """Makes TLS contexts and keeps them. There is no way to switch the checks off."""

    def __init__(self) -> None:
        """Begin without any."""
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def context(self, ca_certificates: str) -> ssl.SSLContext:
        """Return the context that trusts these certificates (PEM), or the system's when there are none.

        Raises ssl.SSLError or ValueError when they cannot be read.
        """
        context = self._contexts.get(ca_certificates)
        if context is None:
            context = await asyncio.to_thread(_new_context, ca_certificates)
            if len(self._contexts) >= _MOST_CONTEXTS:
                self._contexts.clear()
            self._contexts[ca_certificates] = context
        return context


def _new_context(ca_certificates: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca_certificates or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
