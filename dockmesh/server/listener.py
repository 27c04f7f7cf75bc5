"""The listening sockets, and the addresses at which they are reached."""

import contextlib
import errno
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from dockmesh.env import MOST_PORT, digits

EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)
# Networks of containers and virtual machines on this machine: nobody outside reaches the server there.
_INNER_INTERFACES = ("docker", "br-", "veth", "virbr", "cni", "podman", "lo")
_SIOCGIFADDR = 0x8915  # <linux/sockios.h>
_GLOBAL_SCOPE = "00"  # of /proc/net/if_inet6


class BindError(Exception):
    """The address can't be listened on; the text is one line for the operator."""


def parse_bind(value: str) -> tuple[str, int]:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` as host and port. Raises `BindError`."""
    host, separator, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_bracketed = host.startswith("[") and host.endswith("]")
    number = digits(port, most=MOST_PORT)
    if not separator or not bare or number is None or (":" in bare) != is_bracketed:
        raise BindError(f"--bind={value[:100]!r}: expected HOST:PORT, like 127.0.0.1:8080 or [::1]:8080")
    return bare, number


def bind_all(values: Sequence[str]) -> list[socket.socket]:
    """Sockets bound to all of these, each like `127.0.0.1:8080`. Raises `BindError`."""
    bound: list[socket.socket] = []
    try:
        for host, port in dict.fromkeys(parse_bind(value) for value in values):
            bound += bind(host, port)
    except BindError:
        for sock in bound:
            sock.close()
        raise
    return bound


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to the addresses of the host, not yet listening; `::` takes IPv4 as well. Raises `BindError`."""
    bound: list[socket.socket] = []
    failure = ""
    for family, address in _resolved(host, port):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
            sock.bind(address)
        except OSError as error:
            sock.close()
            failure = error.strerror or str(error)
            if error.errno == errno.EADDRNOTAVAIL:  # of a name's addresses, one that this machine lacks
                continue
            break
        bound.append(sock)
    else:
        if bound:
            return bound
    for sock in bound:
        sock.close()
    raise BindError(f"can't listen on {_with_port(host, port)}: {failure}")


def _resolved(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    """Family and address of each that the name has; of one that is to get any free port, only the first."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise BindError(f"can't listen on {_with_port(host, port)}: {error.strerror or error}") from None
    # Each once: the files of some systems name an address twice.
    unique = list(dict.fromkeys((family, address[:2]) for family, _, _, _, address in found))
    return unique if port else unique[:1]  # type: ignore[return-value]


def urls(sockets: Sequence[socket.socket]) -> list[str]:
    """The addresses at which the sockets are reached, like `http://127.0.0.1:8080`, each once: this machine's own first."""
    found = []
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        hosts = [host]
        if host in EVERY_ADDRESS:
            hosts = ["127.0.0.1", *_ipv4_addresses()]
            if host == "::":
                hosts += _ipv6_addresses()
        found += [f"http://{_with_port(each, port)}" for each in hosts]
    return list(dict.fromkeys(found))


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _ipv4_addresses() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            if not name.startswith(_INNER_INTERFACES):
                with contextlib.suppress(OSError):  # it has none
                    answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                    yield socket.inet_ntoa(answer[20:24])


def _ipv6_addresses() -> Iterator[str]:
    with contextlib.suppress(OSError):  # a system without IPv6
        for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines():
            digits, _, _, scope, _, name = line.split()
            if scope == _GLOBAL_SCOPE and not name.startswith(_INNER_INTERFACES):
                yield str(ipaddress.IPv6Address(int(digits, 16)))
