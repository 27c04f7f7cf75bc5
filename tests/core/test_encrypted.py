"""Encrypted texts come back, and only under their own key and purpose."""

import pytest
from django.apps import apps
from django.test import override_settings

from dockmesh.core import encrypted
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


def test_what_a_former_key_encrypted_is_read_for_as_long_as_that_is_a_fallback() -> None:
    with override_settings(SECRET_KEY="x" * 50):
        old = encrypt("geheim", purpose="env file")
    with pytest.raises(DecryptError):
        decrypt(old, purpose="env file")
    with override_settings(SECRET_KEY_FALLBACKS=["y" * 50, "x" * 50]):
        assert decrypt(old, purpose="env file") == "geheim"
        new = encrypt("geheim", purpose="env file")
    assert decrypt(new, purpose="env file") == "geheim"


def test_every_encrypted_column_is_looked_after_when_the_key_changes() -> None:
    columns = {
        (model._meta.label, field.name)
        for model in apps.get_models()
        for field in model._meta.get_fields()
        if field.name.startswith("encrypted_")
    }
    assert {(model, column) for model, column, _ in encrypted._columns} == columns
