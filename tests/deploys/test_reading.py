"""Compose files and outputs are for whoever has stacks.read, or may change them anyway."""

import pytest
from django.test import Client

from dockmesh.core import clock
from dockmesh.deploys.models import Deploy, StackFiles
from dockmesh.fleet.models import Stack
from tests.fleet.factories import make_host
from tests.tokens.support import bearer, token_with, user_with

pytestmark = pytest.mark.django_db

SECRET = "hunter2-in-a-file"
SAID = "said-by-compose"


@pytest.fixture
def deploy() -> Deploy:
    now = clock.now()
    stack = Stack.objects.create(host=make_host("one")[0], name="shop", is_managed=True, state_changed_at=now)
    file = f"services: {{web: {{image: '{SECRET}'}}}}"
    StackFiles.objects.create(stack=stack, compose_file=file, updated_at=now)
    return Deploy.objects.create(
        stack=stack,
        stack_name="shop",
        host_name="one",
        status=Deploy.Status.SUCCESS,
        compose_file=file,
        output=SAID,
        requested_by="ann",
        requested_at=now,
    )


@pytest.mark.parametrize(
    ("permissions", "may_read"),
    [
        (["fleet.read"], False),
        (["fleet.read", "stacks.read"], True),
        (["fleet.read", "stacks.deploy"], True),
    ],
)
def test_who_reads_them(deploy: Deploy, permissions: list[str], may_read: bool, client: Client) -> None:
    headers = bearer(token_with(*permissions)[1])
    client.force_login(user_with(*permissions))
    stack = deploy.stack_id
    told = client.get(f"/api/v1/deploys/{deploy.pk}", headers=headers).json()
    assert (told["output"], told["compose_file"] is not None) == (SAID if may_read else None, may_read)
    told = client.get(f"/api/v1/stacks/{stack}", headers=headers).json()
    assert (told["compose_file"] is not None) == may_read
    survey = client.get(f"/api/v1/stacks/{stack}/survey", headers=headers)
    assert survey.status_code == (404 if may_read else 403)
    for path in (f"/stacks/{stack}/", f"/deploys/{deploy.pk}/", f"/deploys/{deploy.pk}/?part=live"):
        page = client.get(path).content.decode()
        assert (SECRET in page or SAID in page) == may_read, path
