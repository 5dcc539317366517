"""Addresses of datasets, items and uploads. PATCH and HEAD of an upload never get here: see `uploads.py`."""

from django.urls import path

from webapp.datasets.pages import dataset_actions as editor
from webapp.datasets.pages import dataset_page as views
from webapp.datasets.pages import item_page, upload_reports
from webapp.datasets.pages import masks_tab as mending
from webapp.datasets.pictures import views as media
from webapp.datasets.uploads import views as uploads

urlpatterns = [
    path("projects/<int:project_id>/datasets/new/", views.dataset_new, name="dataset-new"),
    path("datasets/<int:dataset_id>/", views.dataset, name="dataset"),
    path("datasets/<int:dataset_id>/edit/", editor.edit, name="dataset-edit"),
    path("datasets/<int:dataset_id>/list.csv", editor.listed, name="dataset-list"),
    path("datasets/<int:dataset_id>/split/", editor.split, name="dataset-split"),
    path("datasets/<int:dataset_id>/kind/", editor.kind, name="dataset-kind"),
    path("datasets/<int:dataset_id>/classes/", editor.name_classes, name="dataset-classes"),
    path("datasets/<int:dataset_id>/masks/", mending.mend, name="dataset-masks"),
    path("revisions/<int:revision_id>/export.zip", editor.export, name="revision-export"),
    path("revisions/<int:revision_id>/restore/", editor.restore, name="revision-restore"),
    path("revisions/<int:revision_id>/subset/", editor.subset, name="revision-subset"),
    path("datasets/<int:dataset_id>/uploads/", uploads.create, name="upload-create"),
    path("uploads/<uuid:upload_id>/", uploads.upload, name="upload"),
    path("uploads/<uuid:upload_id>/left-out.csv", upload_reports.listed, name="upload-left-out"),
    path("items/<int:item_id>/", item_page.item, name="item"),
    path("items/<int:item_id>/around.json", item_page.around, name="item-around"),
    path("items/<int:item_id>/thumbnail.webp", media.thumbnail, name="item-thumbnail"),
    path("items/<int:item_id>/image.png", media.image, name="item-image"),
    path("items/<int:item_id>/tiles/<int:level>/<int:column>-<int:row>.png", media.tile, name="item-tile"),
    path("items/<int:item_id>/masks/<str:layer>.png", media.mask, name="item-mask"),
    path("items/<int:item_id>/colours/<int:artifact_id>.png", media.colour, name="item-colour"),
    path("items/<int:item_id>/histogram.json", media.histogram, name="item-histogram"),
]
