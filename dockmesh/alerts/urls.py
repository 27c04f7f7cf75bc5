"""The addresses of the alerts room's pages."""

from django.urls import path

from dockmesh.alerts import views

app_name = "alerts"

urlpatterns = [
    path("alerts/", views.alerts, name="alerts"),
    path("alerts/<int:pk>/", views.alert, name="alert"),
    path("alerts/rules/", views.rules, name="rules"),
    path("alerts/rules/new/", views.new_rule, name="rule-add"),
    path("alerts/rules/recommended/", views.recommended, name="rules-recommended"),
    path("alerts/rules/<int:pk>/", views.rule, name="rule"),
    path("alerts/rules/<int:pk>/change/", views.change_rule, name="rule-change"),
    path("alerts/rules/<int:pk>/remove/", views.remove_rule, name="rule-remove"),
    path("alerts/channels/", views.channels, name="channels"),
    path("alerts/channels/new/", views.new_channel, name="channel-add"),
    path("alerts/channels/<int:pk>/", views.change_channel, name="channel-change"),
    path("alerts/channels/<int:pk>/test/", views.test_channel, name="channel-test"),
    path("alerts/channels/<int:pk>/remove/", views.remove_channel, name="channel-remove"),
]
