"""URL patterns of sign-in, accounts and new projects."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from webapp.projects import views

urlpatterns = [
    path("sign-in/", views.SignIn.as_view(), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("in/<str:token>/", views.sign_in_link, name="sign-in-link"),
    path("account/", views.account, name="account"),
    path("projects/new/", views.project_new, name="project-new"),
]
