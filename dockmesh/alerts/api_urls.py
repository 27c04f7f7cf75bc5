"""Addresses below /api/v1/."""

from django.urls import path

from dockmesh.alerts import api

urlpatterns = [
    path("alert-rules", api.Rules.as_view()),
    path("alert-rules/preview", api.RulePreview.as_view()),
    path("alert-rules/<int:pk>", api.Rule.as_view()),
    path("alerts", api.Alerts.as_view()),
    path("alerts/<int:pk>", api.AlertDetail.as_view()),
    path("alert-channels", api.Channels.as_view()),
    path("alert-channels/<int:pk>", api.ChannelDetail.as_view()),
    path("alert-channels/<int:pk>/test", api.ChannelTest.as_view()),
]
