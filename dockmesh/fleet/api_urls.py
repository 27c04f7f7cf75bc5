"""The addresses below /api/v1/."""

from django.urls import path

from dockmesh.core.viewsets import Router
from dockmesh.fleet import agent_views, api, container_api, update_api

urlpatterns = [
    path("agents/heartbeat", agent_views.heartbeat),
    path("agents/wait", agent_views.wait),
    path("agents/enroll", agent_views.enroll),
    path("agents/commands/<str:id>/result", agent_views.command_result),
    path("agents/logs/<str:id>", agent_views.log_piece),
    path("discovery/prometheus", api.PrometheusDiscovery.as_view()),
    *Router(
        {
            "agent-updates": update_api.AgentUpdateViewSet,
            "hosts": api.HostViewSet,
            "commands": container_api.CommandViewSet,
            "containers": api.ContainerViewSet,
            "enrollment-tokens": api.EnrollmentTokenViewSet,
        }
    ).urls,
]
