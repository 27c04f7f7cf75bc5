"""Whether the database has the tables that the code expects: `django_migrations_unapplied_total`.

django-prometheus counts its migrations only while a process starts, and asks the database for it in every
management command. Here the server's processes count them beside the requests, once a minute, so that the
number falls when somebody migrates.
"""

from django.db import DEFAULT_DB_ALIAS
from django_prometheus.migrations import applied_migrations, unapplied_migrations

from dockmesh.core import health


def count_migrations() -> None:
    """Set both gauges; one query."""
    applied, unapplied = health.count_migrations()
    applied_migrations.labels(DEFAULT_DB_ALIAS).set(applied)
    unapplied_migrations.labels(DEFAULT_DB_ALIAS).set(unapplied)
