#!/usr/bin/env python
"""The command line of dockmesh."""

import os
import sys

from dockmesh.env import EnvironmentVariableError


def main() -> None:
    """Run one management command; a bad setting is one clear line and exit code 2."""
    os.umask(0o077)  # the database and whatever else lands in the data folder is the server's alone
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dockmesh.settings")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except EnvironmentVariableError as error:
        sys.exit(error.exit_with_message())


if __name__ == "__main__":
    main()
