"""The scheduler room."""

from django.apps import AppConfig


class SchedulerConfig(AppConfig):
    """Periodic jobs and the lease that lets one replica run them."""

    name = "dockmesh.scheduler"
    label = "scheduler"
