"""All addresses: one list per app."""

from django.urls import include, path

urlpatterns = [
    path("", include("webapp.home.urls")),
    path("", include("webapp.projects.urls")),
    path("", include("webapp.datasets.urls")),
    path("", include("webapp.jobs.urls")),
    path("", include("webapp.experiments.urls")),
    path("", include("webapp.api.urls")),
    path("", include("webapp.doctor.urls")),
]

handler400 = "webapp.error_pages.bad_request"
handler403 = "webapp.error_pages.permission_denied"
handler404 = "webapp.error_pages.page_not_found"
handler500 = "webapp.error_pages.server_error"
