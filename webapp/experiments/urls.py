"""URL patterns of experiments."""

from django.urls import path

from webapp.experiments import views

urlpatterns = [
    path("projects/<int:project_id>/experiments/new/", views.experiment_new, name="experiment-new"),
    path("experiments/<int:experiment_id>/", views.experiment, name="experiment"),
]
