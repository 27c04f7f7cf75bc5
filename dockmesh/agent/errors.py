"""What can go wrong, said in one line each, and the exit codes of a start that can't go on."""

from __future__ import annotations

EXIT_USAGE = 2  # an option, the configuration or the state folder (argparse's own code)
EXIT_REFUSED = 3  # the enrollment token was refused
EXIT_TLS = 4  # the server's certificate could not be trusted


class StartError(Exception):
    """The agent can't start; the text is one line for the operator."""

    def __init__(self, message: str, *, code: int = EXIT_USAGE) -> None:
        super().__init__(message)
        self.code = code


class ServerError(Exception):
    """A request to the server failed. `status` is 0 where there was no answer."""

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class TlsError(ServerError):
    """The server was reached but its certificate is not trusted."""
