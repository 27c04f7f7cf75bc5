"""The addresses below /api/v1/."""

from django.urls import path

from dockmesh.fleet import agent_views, api

urlpatterns = [
    path("agents/heartbeat", agent_views.heartbeat),
    path("agents/wait", agent_views.wait),
    path("agents/enroll", agent_views.enroll),
    path("agents/commands/<str:id>/result", agent_views.command_result),
    path("hosts", api.Hosts.as_view()),
    path("hosts/<int:id>", api.HostDetail.as_view()),
    path("containers", api.Containers.as_view()),
    path("containers/<int:id>", api.ContainerDetail.as_view()),
    path("enrollment-tokens", api.EnrollmentTokens.as_view()),
    path("enrollment-tokens/<int:id>", api.EnrollmentTokenDetail.as_view()),
    path("discovery/prometheus", api.PrometheusDiscovery.as_view()),
]
