"""The addresses of the pages of stacks and deploys."""

from django.urls import path

from dockmesh.deploys import views

app_name = "deploys"

urlpatterns = [
    path("stacks/", views.stacks, name="stacks"),
    path("stacks/new/", views.new_stack, name="new-stack"),
    path("stacks/<int:pk>/", views.stack, name="stack"),
    path("stacks/<int:pk>/change/", views.change_stack, name="change-stack"),
    path("stacks/<int:pk>/adopt/", views.adopt_stack, name="adopt-stack"),
    path("stacks/<int:pk>/survey/", views.survey_stack, name="survey-stack"),
    path("stacks/<int:pk>/operate/", views.operate, name="operate"),
    path("stacks/<int:pk>/preview/", views.preview_stack, name="preview-stack"),
    path("stacks/<int:pk>/stop/", views.stop_stack, name="stop-stack"),
    path("stacks/<int:pk>/remove/", views.remove_stack, name="remove-stack"),
    path("deploys/", views.deploys, name="deploys"),
    path("deploys/<int:pk>/", views.deploy, name="deploy"),
    path("deploys/<int:pk>/cancel/", views.cancel_deploy, name="cancel-deploy"),
    path("deploys/<int:pk>/confirm/", views.confirm_removal, name="confirm-removal"),
    path("deploys/<int:pk>/rollback/", views.roll_back, name="roll-back"),
]
