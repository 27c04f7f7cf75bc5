"""The listening socket."""

import socket


class BindError(Exception):
    """The address can't be listened on; the text is one line for the operator."""


def parse_bind(value: str) -> tuple[str, int]:
    """`127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` as host and port. Raises `BindError`."""
    host, separator, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_bracketed = host.startswith("[") and host.endswith("]")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if not separator or not bare or not is_port or (":" in bare) != is_bracketed:
        raise BindError(f"--bind={value[:100]!r}: expected HOST:PORT, like 127.0.0.1:8080 or [::1]:8080")
    return bare, int(port)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening. Raises `BindError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError as error:
        raise BindError(f"can't listen on {host}:{port}: {error.strerror or error}") from None
    return sock
