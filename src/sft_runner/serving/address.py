"""Where a server listens: loopback only, on a port that nobody else has."""

import errno
import ipaddress
import socket
from dataclasses import dataclass

from sft_runner.errors import MachineError, UserError


@dataclass(frozen=True)
class Address:
    """A loopback address and a port."""

    host: str
    """IP address, never a name, so that server and client mean the same."""
    port: int
    """TCP port."""

    @property
    def url(self) -> str:
        """`http://127.0.0.1:8000`"""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def choose(host: str, port: int) -> Address:
    """An address that is free now; port 0 takes any.

    Raises `UserError` for a host that is open to the network or no port, `MachineError` for a port that is taken.
    """
    ip = _loopback(host)
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    if not 0 <= port <= 65535:
        raise UserError(f"serve.port={port} is not a port", "give a number from 1024 to 65535, or 0 for a free one")
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended is no obstacle
        try:
            probe.bind((str(ip), port))
        except OSError as error:
            reason = "already in use" if error.errno == errno.EADDRINUSE else str(error.strerror).lower()
            raise MachineError(
                f"serve.port={port} on {ip}: {reason}",
                "stop the program that has it, choose another port, or serve.port=0 for a free one",
            ) from None
        return Address(str(ip), int(probe.getsockname()[1]))


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise UserError(f"serve.host={host} is not an IP address", "use 127.0.0.1") from None
    if not ip.is_loopback:
        raise UserError(
            f"serve.host={host} is open to the network, and the server asks for no key",
            "use 127.0.0.1, and a proxy that asks for a key in front of it",
        )
    return ip
