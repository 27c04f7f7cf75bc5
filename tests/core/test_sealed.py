"""Sealed texts come back, and only under their own key and purpose."""

import pytest
from django.test import override_settings

from dockmesh.core.sealed import UnsealError, seal, unseal


def test_a_sealed_text_comes_back() -> None:
    sealed = seal("geheim, ünïcode\n", purpose="env file")
    assert "geheim" not in sealed
    assert unseal(sealed, purpose="env file") == "geheim, ünïcode\n"


def test_a_text_sealed_for_one_purpose_is_no_other() -> None:
    sealed = seal("geheim", purpose="env file")
    with pytest.raises(UnsealError):
        unseal(sealed, purpose="notification")


def test_another_key_says_what_to_do() -> None:
    sealed = seal("geheim", purpose="env file")
    with override_settings(SECRET_KEY="x" * 50), pytest.raises(UnsealError, match="DOCKMESH_SECRET_KEY"):
        unseal(sealed, purpose="env file")
