"""The addresses of the metrics room."""

from django.urls import path

from metrics import pages, views

app_name = "metrics"

urlpatterns = [
    path("metrics", views.metrics, name="metrics"),
    path("settings/metrics/", pages.settings_page, name="settings"),
]
