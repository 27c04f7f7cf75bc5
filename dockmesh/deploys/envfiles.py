"""Env files at rest: encrypted, and opened only for the agent and for the names of their variables."""

from dockmesh.core.encrypted import DecryptError, decrypt, encrypt
from dockmesh.deploys.compose import env_names

PURPOSE = "env file of a stack"


def encrypted(text: str) -> str:
    """The encrypted text; empty for an empty one."""
    return encrypt(text, purpose=PURPOSE) if text else ""


def decrypted(encrypted_env_file: str) -> str:
    """An env file's text, empty where there is none; raises `DecryptError`."""
    return decrypt(encrypted_env_file, purpose=PURPOSE) if encrypted_env_file else ""


def names_in(encrypted_env_file: str) -> list[str]:
    """The names of an env file's variables; empty where it can't be decrypted."""
    try:
        return env_names(decrypted(encrypted_env_file))
    except DecryptError:
        return []
