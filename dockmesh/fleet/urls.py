"""The addresses of the pages of hosts and containers, and of what a new host fetches."""

from django.urls import path

from dockmesh.fleet import agent_file_views, container_views, views

app_name = "fleet"

urlpatterns = [
    path("hosts/", views.HostList.as_view(), name="hosts"),
    path("hosts/add/", views.HostAdd.as_view(), name="host-add"),
    path("hosts/add/<int:pk>/", views.HostAdded.as_view(), name="host-added"),
    path("hosts/agents/", views.AgentUpdateList.as_view(), name="agent-updates"),
    path("hosts/agents/update/", views.AgentUpdateStart.as_view(), name="agent-update-start"),
    path("hosts/<int:pk>/", views.HostDetail.as_view(), name="host"),
    path("hosts/<int:pk>/change/", views.HostChange.as_view(), name="host-change"),
    path("hosts/<int:pk>/credential/", views.HostRenew.as_view(), name="host-renew"),
    path("hosts/<int:pk>/remove/", views.HostRemove.as_view(), name="host-remove"),
    path("hosts/<int:pk>/update-agent/", views.HostAgentUpdate.as_view(), name="host-agent-update"),
    path("containers/", container_views.ContainerList.as_view(), name="containers"),
    path("containers/act/", container_views.ContainersAct.as_view(), name="containers-act"),
    path("containers/<int:pk>/", container_views.ContainerDetail.as_view(), name="container"),
    path("containers/<int:pk>/log/", container_views.ContainerLog.as_view(), name="container-log"),
    path(
        "containers/<int:pk>/log/open/", container_views.ContainerLogOpen.as_view(), name="container-log-open"
    ),
    path(
        "containers/logs/<uuid:session>/",
        container_views.ContainerLogRead.as_view(),
        name="container-log-read",
    ),
    path("agent/install", agent_file_views.script, name="agent-install"),
    path("agent/install.sha256", agent_file_views.script_sum, name="agent-install-sum"),
    path("agent/dockmesh-agent.pyz", agent_file_views.pyz, name="agent-pyz"),
    path("agent/dockmesh-agent.pyz.sha256", agent_file_views.pyz_sum, name="agent-pyz-sum"),
    path("agent/context.tar.gz", agent_file_views.context, name="agent-context"),
    path("agent/context.tar.gz.sha256", agent_file_views.context_sum, name="agent-context-sum"),
]
