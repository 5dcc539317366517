"""Addresses of jobs, their files, and the queue."""

from django.urls import path

from webapp.jobs.pages import downloads as answers
from webapp.jobs.pages import job_page as views
from webapp.jobs.pages import new_job_page, queue_page

urlpatterns = [
    path("projects/<int:project_id>/jobs/new/", new_job_page.job_new, name="job-new"),
    path("projects/<int:project_id>/jobs/preflight/", new_job_page.job_preflight, name="job-preflight"),
    path("jobs/<int:job_id>/", views.job, name="job"),
    path("jobs/<int:job_id>/events.json", answers.job_events, name="job-events"),
    path("jobs/<int:job_id>/points.csv", answers.job_points, name="job-points"),
    path("jobs/<int:job_id>/record.json", answers.job_record, name="job-record"),
    path("jobs/<int:job_id>/log.txt", answers.job_log, name="job-log"),
    path("jobs/<int:job_id>/images/", views.job_images, name="job-images"),
    path("jobs/<int:job_id>/<slug:action>/", views.job_action, name="job-action"),
    path("artifacts/<int:artifact_id>/<str:name>", answers.artifact, name="artifact"),
    path("queue/", queue_page.queue_page, name="queue"),
    path("queue/<int:job_id>/move/", queue_page.job_move, name="job-move"),
]
