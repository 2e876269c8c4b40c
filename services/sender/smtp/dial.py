"""From a host name to a connected socket."""

import asyncio
import errno
import socket
from typing import Any

from services.sender.replies import Event, Incident, Stage


class CannotDial(Exception):
    """No address of the host could be reached."""

    def __init__(self, incident: Incident) -> None:
        """Take what happened."""
        super().__init__(str(incident))
        self.incident = incident


async def dial(host: str, port: int, *, timeout: float) -> socket.socket:
    """Return a socket connected to the host: its addresses are tried in turn, within the timeout. Raises CannotDial.

    The socket does not wait for more to write (TCP_NODELAY): the dot must not be held back behind the message.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    addresses = await _look_up(host, port, deadline=deadline)
    problem = Incident(Stage.CONNECT, event=Event.UNREACHABLE)
    for index, (family, address) in enumerate(addresses):
        # An address that swallows packets must leave time for the others.
        share = (deadline - loop.time()) / (len(addresses) - index)
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            async with asyncio.timeout(max(share, 0)):
                await loop.sock_connect(connection, address)
        except OSError as error:  # TimeoutError is one of them
            connection.close()
            problem = Incident(Stage.CONNECT, event=_event(error), detail=f"{address[0]}: {error.strerror or ''}")
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise CannotDial(problem)


async def _look_up(host: str, port: int, *, deadline: float) -> list[tuple[int, tuple[Any, ...]]]:
    """Return the addresses of the host with their families, in the order of the resolver."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise CannotDial(Incident(Stage.CONNECT, event=Event.DNS_FAILED, detail=host)) from None
    except (OSError, UnicodeError) as error:
        missing = isinstance(error, UnicodeError) or error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}
        event = Event.NO_SUCH_HOST if missing else Event.DNS_FAILED
        raise CannotDial(Incident(Stage.CONNECT, event=event, detail=host)) from None
    return [(family, address) for family, _, _, _, address in found]


def _event(error: OSError) -> Event:
    if isinstance(error, TimeoutError):
        return Event.TIMEOUT
    if error.errno == errno.ECONNREFUSED:
        return Event.REFUSED
    return Event.UNREACHABLE
