"""Env files at rest: encrypted, and opened only for the agent and for the names of their variables."""

from dockmesh.core.sealed import UnsealError, seal, unseal
from dockmesh.deploys.compose import env_names

PURPOSE = "env file of a stack"


def sealed(text: str) -> str:
    """The encrypted text; empty for an empty one."""
    return seal(text, purpose=PURPOSE) if text else ""


def unsealed(env_file_sealed: str) -> str:
    """An env file's text, empty where there is none; raises `UnsealError`."""
    return unseal(env_file_sealed, purpose=PURPOSE) if env_file_sealed else ""


def names_in(env_file_sealed: str) -> list[str]:
    """The names of an env file's variables; empty where it can't be decrypted."""
    try:
        return env_names(unsealed(env_file_sealed))
    except UnsealError:
        return []
