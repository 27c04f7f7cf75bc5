"""The number of migrations that the database has not had is on the page."""

import pytest
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from metrics import schema


def _unapplied() -> str:
    text = Client().get("/metrics").content.decode()
    return text.partition('django_migrations_unapplied_total{connection="default"} ')[2].partition("\n")[0]


@pytest.mark.django_db
def test_it_is_0_on_a_migrated_database_and_rises_and_falls_with_it(settings):
    settings.DOCKMESH_METRICS_AUTH = False
    schema.count_migrations()
    assert float(_unapplied()) == 0
    row = MigrationRecorder.Migration.objects.get(app="tokens", name="0001_initial")
    row.delete()
    schema.count_migrations()
    assert float(_unapplied()) == 1
    row.save(force_insert=True)
    schema.count_migrations()
    assert float(_unapplied()) == 0
