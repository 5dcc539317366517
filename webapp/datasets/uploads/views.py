"""Uploads in pieces that a cut connection does not lose: tus 1.0.0 with creation, termination, expiration, checksum.

PATCH and HEAD are `application`, an ASGI application of their own (`pieces.py`), which `webapp/asgi.py` puts before
Django: Django would read a piece to its end before a view sees it, and a cut would lose all of it. The rest is here.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable
from functools import wraps

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import reverse
from django.utils.http import http_date
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from webapp.datasets import exceptions
from webapp.datasets.models import Dataset, Upload
from webapp.datasets.uploads import services
from webapp.datasets.uploads.tus import ALGORITHMS, VERSION, application, stands_for_patch
from webapp.projects.access import get_editable, get_visible, signed_in

__all__ = ["application", "create", "stands_for_patch", "upload"]

MAX_LENGTH = 2**40
DIGITS = 18
"""A number of more than that is no length of anything."""

View = Callable[..., HttpResponse]


def _is_tus(view: View) -> View:
    """Puts what the protocol asks for on every answer, refusals too, and turns other versions away."""

    @wraps(view)
    def speaking(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if request.method in ("POST", "DELETE") and request.headers.get("Tus-Resumable") != VERSION:
            sentence = f"Uploads use tus {VERSION}; the header Tus-Resumable has another version."
            return _tus(_refusal(sentence, status=412))
        try:
            return _tus(view(request, *args, **kwargs))
        except Http404:
            return _tus(_refusal("There is no such upload, or no such dataset.", status=404))
        except PermissionDenied as denied:
            return _tus(_refusal(str(denied), status=403))

    return speaking


@never_cache
@_is_tus
@require_http_methods(["POST", "OPTIONS"])
def create(request: HttpRequest, dataset_id: int) -> HttpResponse:
    """Begins an upload: answers 201 with the address that its pieces go to."""
    dataset = get_editable(Dataset.objects.all(), signed_in(request), pk=dataset_id)
    if request.method == "OPTIONS":
        return HttpResponse(status=204)
    if "Upload-Defer-Length" in request.headers:
        return _refusal("The length must be known from the start: send Upload-Length with it.", status=400)
    length = request.headers.get("Upload-Length", "")
    if not (length.isascii() and length.isdigit()):
        return _refusal("The header Upload-Length must hold the number of bytes of the file.", status=400)
    if len(length) > DIGITS or int(length) > MAX_LENGTH:
        return _refusal(f"One upload holds up to {MAX_LENGTH // 2**40} TiB. Send it in parts.", status=413)
    filename = _filename(request.headers.get("Upload-Metadata", ""))
    if filename is None:
        return _refusal("Upload-Metadata must name the file: filename <base64 of its UTF-8 name>.", status=400)
    try:
        made = services.upload_create(dataset=dataset, user=signed_in(request), filename=filename, length=int(length))
    except exceptions.UploadRefused as refused:
        return _refusal(str(refused), status=refused.status)
    response = HttpResponse(status=201)
    response.headers["Location"] = reverse("upload", args=[made.pk])
    response.headers["Upload-Expires"] = http_date(made.expires_at.timestamp())
    return response


@never_cache
@_is_tus
@require_http_methods(["GET", "DELETE", "OPTIONS", "POST"])
def upload(request: HttpRequest, upload_id: uuid.UUID) -> HttpResponse:
    """GET: progress and report of the upload, as JSON. DELETE, or a POST that overrides the method: discards it."""
    if request.method == "POST" and request.headers.get("X-HTTP-Method-Override") != "DELETE":
        return HttpResponseNotAllowed(["GET", "HEAD", "PATCH", "DELETE", "OPTIONS"])
    rows = Upload.objects.select_related("job", "dataset__project")
    if request.method == "GET":
        row = get_visible(rows, signed_in(request), project="dataset__project", pk=upload_id)
        return JsonResponse(services.upload_state(row))
    row = get_editable(rows, signed_in(request), project="dataset__project", pk=upload_id)
    if request.method == "OPTIONS":
        return HttpResponse(status=204)
    if row.state in (Upload.State.ABANDONED, Upload.State.FAILED):
        return _refusal("This upload was discarded before.", status=410)
    if not services.upload_terminate(row):
        return _refusal(f"{row.filename} has arrived and is being read. Cancel its job instead.", status=409)
    return HttpResponse(status=204)


def _filename(metadata: str) -> str | None:
    """`filename bmFtZQ==,filetype ...`; None where there is no name or it cannot be read."""
    for pair in metadata.split(","):
        key, _, value = pair.strip().partition(" ")
        if key == "filename":
            try:
                return base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return None
    return None


def _refusal(sentence: str, *, status: int) -> HttpResponse:
    return HttpResponse(sentence, status=status, content_type="text/plain; charset=utf-8")


def _tus(response: HttpResponse) -> HttpResponse:
    response.headers["Tus-Resumable"] = VERSION
    response.headers["Tus-Version"] = VERSION
    response.headers["Tus-Extension"] = "creation,termination,expiration,checksum"
    response.headers["Tus-Checksum-Algorithm"] = ",".join(ALGORITHMS)
    response.headers["Tus-Max-Size"] = str(MAX_LENGTH)
    return response
