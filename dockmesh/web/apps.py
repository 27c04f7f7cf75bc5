"""The web room."""

from django.apps import AppConfig


class WebConfig(AppConfig):
    """Base template, styles, overview, sign-in and set-up."""

    name = "dockmesh.web"
    label = "web"
