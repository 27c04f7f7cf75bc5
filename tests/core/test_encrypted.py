"""Encrypted texts come back, and only under their own key and purpose."""

import pytest
from django.test import override_settings

from dockmesh.core.encrypted import DecryptError, decrypt, encrypt


def test_a_encrypted_text_comes_back() -> None:
    encrypted = encrypt("geheim, ünïcode\n", purpose="env file")
    assert "geheim" not in encrypted
    assert decrypt(encrypted, purpose="env file") == "geheim, ünïcode\n"


def test_a_text_encrypted_for_one_purpose_is_no_other() -> None:
    encrypted = encrypt("geheim", purpose="env file")
    with pytest.raises(DecryptError):
        decrypt(encrypted, purpose="notification")


def test_another_key_says_what_to_do() -> None:
    encrypted = encrypt("geheim", purpose="env file")
    with override_settings(SECRET_KEY="x" * 50), pytest.raises(DecryptError, match="DOCKMESH_SECRET_KEY"):
        decrypt(encrypted, purpose="env file")
