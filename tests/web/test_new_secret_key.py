"""The secret key is replaced: what was under the former one still works, is taken over, and then needs it no more."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from pytest_django import Settings

from dockmesh.alerts.models import Channel
from dockmesh.alerts.receivers import URL_PURPOSE
from dockmesh.audit.services import SYSTEM
from dockmesh.audit.verification import Broken, verify
from dockmesh.core import encrypted
from dockmesh.core.encrypted import DecryptError, decrypt
from dockmesh.deploys import envfiles, services
from dockmesh.deploys.models import Deploy, StackFiles
from tests.fleet.factories import make_host
from tests.tokens.support import user_with

OLD, NEW = "the former key, of thirty-two characters", "the new key, of at least thirty-two characters"

pytestmark = pytest.mark.django_db


@pytest.fixture
def before(settings: Settings) -> Channel:
    """A stack with an env file, its deploy, a channel and an audit log, all under the old key; the new one is set."""
    settings.SECRET_KEY = OLD
    host, _ = make_host()
    stack = services.create_stack(
        actor=SYSTEM,
        host_id=host.pk,
        name="shop",
        compose_file="services: {web: {image: nginx}}",
        env_file="A=geheim\n",
    )
    files = StackFiles.objects.get(stack=stack)
    Deploy.objects.create(
        stack=stack, encrypted_env_file=files.encrypted_env_file, requested_at=files.updated_at
    )
    channel = Channel.objects.create(
        name="chat", encrypted_url=encrypted.encrypt("ntfy://x", purpose=URL_PURPOSE)
    )
    settings.SECRET_KEY = NEW
    return channel


def texts(channel: Channel) -> list[str]:
    channel.refresh_from_db()
    return [
        envfiles.decrypted(StackFiles.objects.get().encrypted_env_file),
        envfiles.decrypted(Deploy.objects.get().encrypted_env_file),
        decrypt(channel.encrypted_url, purpose=URL_PURPOSE),
    ]


PLAIN = ["A=geheim\n", "A=geheim\n", "ntfy://x"]


def test_all_is_read_under_the_old_key_and_written_under_the_new_one(
    before: Channel, settings: Settings, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DecryptError):
        texts(before)
    with pytest.raises(Broken, match="key"):
        verify()
    settings.SECRET_KEY_FALLBACKS = [OLD]
    assert texts(before) == PLAIN
    verify()
    monkeypatch.setattr(encrypted, "ROWS", 1)
    call_command("reencrypt")
    assert "Encrypted 3 texts anew" in capsys.readouterr().out
    call_command("reencrypt")
    assert "Encrypted 0 texts anew" in capsys.readouterr().out
    settings.SECRET_KEY_FALLBACKS = []
    assert texts(before) == PLAIN
    verify()


def test_what_no_key_opens_stays_as_it_is_and_is_told(
    before: Channel, settings: Settings, capsys: Any
) -> None:
    settings.SECRET_KEY_FALLBACKS = ["another key, of thirty-two characters too"]
    stored = StackFiles.objects.get().encrypted_env_file
    call_command("reencrypt")
    assert "3 texts were encrypted under none of the keys" in capsys.readouterr().out
    assert StackFiles.objects.get().encrypted_env_file == stored
    with pytest.raises(Broken, match="key"):
        verify()


def test_who_is_signed_in_stays_so(settings: Settings) -> None:
    settings.SECRET_KEY = OLD
    client = Client()
    client.force_login(user_with("fleet.read"))
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, [OLD]
    assert client.get("/").status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert client.get("/").status_code == 200


def test_who_comes_after_the_old_key_is_gone_signs_in_again(settings: Settings) -> None:
    settings.SECRET_KEY = OLD
    client = Client()
    client.force_login(user_with("fleet.read"))
    settings.SECRET_KEY = NEW
    assert client.get("/").status_code == 302
