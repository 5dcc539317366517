"""URL patterns of jobs, their files, and the queue."""

from django.urls import path

from webapp.jobs.pages import downloads, job_page, new_job_page, queue_page

urlpatterns = [
    path("projects/<int:project_id>/jobs/new/", new_job_page.job_new, name="job-new"),
    path("projects/<int:project_id>/jobs/preflight/", new_job_page.job_preflight, name="job-preflight"),
    path("jobs/<int:job_id>/", job_page.job, name="job"),
    path("jobs/<int:job_id>/events.json", downloads.job_events, name="job-events"),
    path("jobs/<int:job_id>/points.csv", downloads.job_points, name="job-points"),
    path("jobs/<int:job_id>/record.json", downloads.job_record, name="job-record"),
    path("jobs/<int:job_id>/log.txt", downloads.job_log, name="job-log"),
    path("jobs/<int:job_id>/images/", job_page.job_images, name="job-images"),
    path("jobs/<int:job_id>/<slug:action>/", job_page.job_action, name="job-action"),
    path("artifacts/<int:artifact_id>/<str:name>", downloads.artifact, name="artifact"),
    path("queue/", queue_page.queue_page, name="queue"),
    path("queue/<int:job_id>/move/", queue_page.job_move, name="job-move"),
]
