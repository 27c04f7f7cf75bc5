"""The addresses below /api/v1/."""

from django.urls import path

from dockmesh.fleet import agent_views

urlpatterns = [
    path("agents/enroll", agent_views.enroll),
    path("agents/heartbeat", agent_views.heartbeat),
    path("agents/commands/<int:command_id>/result", agent_views.command_result),
]
