"""The addresses of the pages of stacks and deploys."""

from django.urls import path

from dockmesh.deploys import views

app_name = "deploys"

urlpatterns = [
    path("stacks/", views.stacks, name="stacks"),
    path("stacks/new/", views.new_stack, name="stack-add"),
    path("stacks/<int:pk>/", views.stack, name="stack"),
    path("stacks/<int:pk>/change/", views.change_stack, name="stack-change"),
    path("stacks/<int:pk>/adopt/", views.adopt_stack, name="stack-adopt"),
    path("stacks/<int:pk>/survey/", views.survey_stack, name="stack-survey"),
    path("stacks/<int:pk>/operate/", views.operate, name="stack-operate"),
    path("stacks/<int:pk>/preview/", views.preview_stack, name="stack-preview"),
    path("stacks/<int:pk>/stop/", views.stop_stack, name="stack-stop"),
    path("stacks/<int:pk>/remove/", views.remove_stack, name="stack-remove"),
    path("deploys/", views.deploys, name="deploys"),
    path("deploys/<int:pk>/", views.deploy, name="deploy"),
    path("deploys/<int:pk>/cancel/", views.cancel_deploy, name="deploy-cancel"),
    path("deploys/<int:pk>/confirm/", views.confirm_removal, name="deploy-confirm"),
    path("deploys/<int:pk>/rollback/", views.roll_back, name="deploy-rollback"),
]
