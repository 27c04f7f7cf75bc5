"""The addresses of the metrics room."""

from django.urls import path

from metrics import settings_views, views

app_name = "metrics"

urlpatterns = [
    path("metrics", views.metrics, name="metrics"),
    path("settings/metrics/", settings_views.MetricsSettings.as_view(), name="settings"),
]
