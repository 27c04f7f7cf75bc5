"""`manage.py createtoken`: an API token for automation."""

import argparse
import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from dockmesh.core import clock
from dockmesh.core.commandline import complain_in_one_line, errors_in_one_line, parse_duration
from tokens import secret
from tokens.models import ApiToken, TokenState
from tokens.permissions import in_order
from tokens.principals import SYSTEM
from tokens.services import create_token, role_with_exactly


class Command(BaseCommand):
    """Prints the token and nothing else, or writes it to a file that only its owner can read."""

    help = "Issue an API token. Standard output is the token and nothing else."
    requires_system_checks = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """The contract's options."""
        complain_in_one_line(parser)
        parser.add_argument("--name", required=True, help="what the token is for")
        rights = parser.add_mutually_exclusive_group(required=True)
        rights.add_argument("--role", help="name of a role")
        rights.add_argument(
            "--permission",
            action="append",
            metavar="PERM",
            help="make or reuse a custom role with exactly these permissions; may be repeated",
        )
        parser.add_argument("--expires-in", metavar="90d", help="a number and one of s, m, h, d, w")
        parser.add_argument(
            "--if-missing",
            action="store_true",
            help="do nothing where a live token of this name is there already",
        )
        parser.add_argument(
            "--output",
            metavar="FILE",
            type=Path,
            help="write the token to this file with mode 0600 instead of standard output",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Raises `CommandError`, one line, where the token can't be made; then nothing is made."""
        try:
            with errors_in_one_line():
                self._run(options)
        except OSError as error:
            raise CommandError(f"{options['output']}: {error.strerror or error}") from None

    def _run(self, options: dict[str, Any]) -> None:
        output: Path | None = options["output"]
        if options["if_missing"] and self._is_there(options, output):
            return
        expires_at = None
        if options["expires_in"]:
            expires_at = clock.now() + parse_duration("--expires-in", options["expires_in"])
        with transaction.atomic():
            role = options["role"] or role_with_exactly(principal=SYSTEM, permissions=options["permission"])
            issued = create_token(principal=SYSTEM, name=options["name"], role=role, expires_at=expires_at)
            if output is not None:
                # Within the transaction: where the file can't be written, there is no token either.
                _write_private(output, issued.text)
        if output is None:
            self.stdout.write(issued.text)

    def _is_there(self, options: dict[str, Any], output: Path | None) -> bool:
        """Whether a live token has this name; `CommandError` where what is there can't serve the caller."""
        name = options["name"].strip()
        token = ApiToken.objects.select_related("role").filter(name=name, revoked_at=None).first()
        if token is None:
            return False
        state = token.state_at(clock.now())
        if state is not TokenState.ACTIVE:
            raise CommandError(f"the token {name!r} is there, but it is {state.value}")
        if output is not None and not _holds(output, token):
            raise CommandError(
                f"the token {name!r} is there, but {output} doesn't hold it and it can't be shown again:"
                " revoke it, and run this once more"
            )
        role, wanted = options["role"], in_order(options["permission"] or ())
        if role and token.role.name != role:
            raise CommandError(
                f"the token {name!r} is there, but its role is {token.role.name!r}, not {role!r}"
            )
        if not role and in_order(token.role.permissions) != wanted:
            held = ", ".join(in_order(token.role.permissions)) or "nothing"
            raise CommandError(f"the token {name!r} is there, but it holds {held}, not {', '.join(wanted)}")
        return True


def _holds(path: Path, token: ApiToken) -> bool:
    """Whether the file's text is the token's present secret."""
    try:
        text = secret.parse(path.read_text(encoding="ascii").strip())
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    return (
        text is not None
        and text.kind is secret.Kind.API
        and text.public_id == token.public_id
        and secret.matches(text, secret.Digest(token.digest, token.pepper))
    )


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all, mode 0600 from the start, no line end after the text."""
    if path.exists() and not path.is_file():
        raise CommandError(f"{path}: expected the name of a file")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
