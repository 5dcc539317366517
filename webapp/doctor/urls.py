"""URL patterns of the doctor."""

from django.urls import path

from webapp.doctor import views

urlpatterns = [
    path("doctor/", views.page, name="doctor"),
    path("doctor/self-test/", views.selftest_new, name="selftest-new"),
    path("doctor/self-test/<slug:ticket>/", views.selftest_page, name="selftest"),
    path("healthz", views.healthz, name="healthz"),
]
