"""The addresses of the pages of hosts and containers."""

from django.urls import path

from dockmesh.fleet import views

app_name = "fleet"

urlpatterns = [
    path("hosts/", views.hosts, name="hosts"),
    path("hosts/add/", views.add_host, name="host-add"),
    path("hosts/add/<int:pk>/", views.added_host, name="host-added"),
    path("hosts/<int:pk>/", views.host, name="host"),
    path("hosts/<int:pk>/change/", views.change_host, name="host-change"),
    path("hosts/<int:pk>/credential/", views.renew_host, name="host-renew"),
    path("hosts/<int:pk>/remove/", views.remove_host, name="host-remove"),
    path("containers/", views.containers, name="containers"),
]
