"""Addresses of datasets, items and uploads. PATCH and HEAD of an upload are answered by `uploads/tus.py`."""

from django.urls import path

from webapp.datasets.pages import dataset_actions, dataset_page, item_page, masks_tab, upload_reports
from webapp.datasets.pictures import views as picture_views
from webapp.datasets.uploads import views as upload_views

urlpatterns = [
    path("projects/<int:project_id>/datasets/new/", dataset_page.dataset_new, name="dataset-new"),
    path("datasets/<int:dataset_id>/", dataset_page.dataset, name="dataset"),
    path("datasets/<int:dataset_id>/edit/", dataset_actions.edit, name="dataset-edit"),
    path("datasets/<int:dataset_id>/list.csv", dataset_actions.download_csv, name="dataset-list"),
    path("datasets/<int:dataset_id>/split/", dataset_actions.split, name="dataset-split"),
    path("datasets/<int:dataset_id>/kind/", dataset_actions.kind, name="dataset-kind"),
    path("datasets/<int:dataset_id>/classes/", dataset_actions.name_classes, name="dataset-classes"),
    path("datasets/<int:dataset_id>/masks/", masks_tab.mask_action, name="dataset-masks"),
    path("revisions/<int:revision_id>/export.zip", dataset_actions.export, name="revision-export"),
    path("revisions/<int:revision_id>/restore/", dataset_actions.restore, name="revision-restore"),
    path("revisions/<int:revision_id>/subset/", dataset_actions.subset, name="revision-subset"),
    path("datasets/<int:dataset_id>/uploads/", upload_views.create, name="upload-create"),
    path("uploads/<uuid:upload_id>/", upload_views.upload, name="upload"),
    path("uploads/<uuid:upload_id>/left-out.csv", upload_reports.download_csv, name="upload-left-out"),
    path("items/<int:item_id>/", item_page.item, name="item"),
    path("items/<int:item_id>/around.json", item_page.around, name="item-around"),
    path("items/<int:item_id>/thumbnail.webp", picture_views.thumbnail, name="item-thumbnail"),
    path("items/<int:item_id>/image.png", picture_views.image, name="item-image"),
    path("items/<int:item_id>/tiles/<int:level>/<int:column>-<int:row>.png", picture_views.tile, name="item-tile"),
    path("items/<int:item_id>/masks/<str:layer>.png", picture_views.mask, name="item-mask"),
    path("items/<int:item_id>/colours/<int:artifact_id>.png", picture_views.colour, name="item-colour"),
    path("items/<int:item_id>/histogram.json", picture_views.histogram, name="item-histogram"),
]
