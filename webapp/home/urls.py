"""URL patterns of the home page, search and one project's page."""

from django.urls import path

from webapp.home import views

urlpatterns = [
    path("", views.home, name="home"),
    path("search/", views.search, name="search"),
    path("projects/<int:project_id>/", views.project, name="project"),
]
