"""What a service raises when it refuses; views and the API translate it, see `dockmesh.core.api`."""

from collections.abc import Mapping, Sequence

Errors = Mapping[str, Sequence[str]]
RETRY_AFTER_SECONDS = "5"


class DomainError(Exception):
    """A refusal with a sentence for the user; `status` is the HTTP status it becomes."""

    status = 400
    title = "Bad request"

    @property
    def headers(self) -> Mapping[str, str]:
        """What the answer says beside: when to come again, where that is sensible."""
        return {"Retry-After": RETRY_AFTER_SECONDS} if self.status in (429, 503) else {}

    def __init__(self, detail: str, *, errors: Errors | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or {}


class InvalidInput(DomainError):
    """A field has a value that can't be taken; `errors` names the field (dots and indexes for nested ones)."""

    title = "Invalid input"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", errors={field: [message]})


class Forbidden(DomainError):
    """The principal may not do that."""

    status = 403
    title = "Forbidden"


class NotFound(DomainError):
    """There is no such object."""

    status = 404
    title = "Not found"


class Conflict(DomainError):
    """The object's present state does not allow it."""

    status = 409
    title = "Conflict"


class Unprocessable(DomainError):
    """Well-formed, but more than the server takes."""

    status = 422
    title = "Unprocessable"


class TooMany(DomainError):
    """There is as much of it already as there may be."""

    status = 429
    title = "Too many"


class Busy(DomainError):
    """Not now, but soon."""

    status = 503
    title = "Busy"


class Unanswered(DomainError):
    """Who was asked, such as an agent, did not answer in time."""

    status = 504
    title = "No answer"
