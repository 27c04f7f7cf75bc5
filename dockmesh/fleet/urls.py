"""The addresses of the pages of hosts and containers."""

from django.urls import path

from dockmesh.fleet import views

app_name = "fleet"

urlpatterns = [
    path("hosts/", views.HostList.as_view(), name="hosts"),
    path("hosts/add/", views.HostAdd.as_view(), name="host-add"),
    path("hosts/add/<int:pk>/", views.HostAdded.as_view(), name="host-added"),
    path("hosts/<int:pk>/", views.HostDetail.as_view(), name="host"),
    path("hosts/<int:pk>/change/", views.HostChange.as_view(), name="host-change"),
    path("hosts/<int:pk>/credential/", views.HostRenew.as_view(), name="host-renew"),
    path("hosts/<int:pk>/remove/", views.HostRemove.as_view(), name="host-remove"),
    path("containers/", views.ContainerList.as_view(), name="containers"),
]
