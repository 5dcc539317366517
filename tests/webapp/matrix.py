"""The matrix of rights: each address and method, what each of five people is answered, and what is sent to it.

Read by `test_access_matrix.py`, which also holds the table against Django's resolver.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLResolver, get_resolver

from webapp.jobs.routing import websocket_urlpatterns

PEOPLE = ("owner", "editor", "viewer", "stranger", "anonymous")
SIGN_IN = "sign-in"
"""Sent to the page of that name, from which the person comes back."""
SECRET = "Secretome"
"""In the name of all that is the project's: no answer to a stranger holds it."""

TABLE = """
                                                             owner editor viewer stranger anonymous
GET    /                                                      200   200    200    200     sign-in
GET    /search/                                               200   200    200    200     sign-in
GET    /sign-in/                                              302   302    302    302     200
POST   /sign-in/                                              302   302    302    302     200
PUT    /sign-in/                                              302   302    302    302     200
POST   /sign-out/                                             302   302    302    302     sign-in
GET    /in/{token}/                                           200   200    200    200     200
POST   /in/{token}/                                           302   302    302    302     302
GET    /account/                                              200   200    200    200     sign-in
POST   /account/                                              422   422    422    422     sign-in
GET    /doctor/                                               200   200    200    200     sign-in
POST   /doctor/self-test/                                     302   302    302    302     sign-in
GET    /doctor/self-test/{ticket}/                            404   404    404    404     sign-in
GET    /healthz                                               200   200    200    200     200

GET    /projects/new/                                         200   200    200    200     sign-in
POST   /projects/new/                                         302   302    302    302     sign-in
GET    /projects/{project_id}/                                200   200    200    404     sign-in
GET    /projects/{project_id}/datasets/new/                   200   200    403    404     sign-in
POST   /projects/{project_id}/datasets/new/                   302   302    403    404     sign-in
GET    /projects/{project_id}/jobs/new/                       200   200    403    404     sign-in
POST   /projects/{project_id}/jobs/new/                       302   302    403    404     sign-in
POST   /projects/{project_id}/jobs/preflight/                 200   200    403    404     sign-in
POST   /projects/{project_id}/experiments/new/                302   302    403    404     sign-in

GET    /datasets/{dataset_id}/                                200   200    200    404     sign-in
POST   /datasets/{dataset_id}/edit/                           302   302    403    404     sign-in
POST   /datasets/{dataset_id}/list.csv                        200   200    200    404     sign-in
POST   /datasets/{dataset_id}/split/                          302   302    403    404     sign-in
POST   /datasets/{dataset_id}/kind/                           302   302    403    404     sign-in
POST   /datasets/{dataset_id}/classes/                        302   302    403    404     sign-in
POST   /datasets/{dataset_id}/masks/                          302   302    403    404     sign-in
POST   /datasets/{dataset_id}/uploads/                        201   201    403    404     sign-in
OPTIONS /datasets/{dataset_id}/uploads/                       204   204    403    404     sign-in
GET    /revisions/{revision_id}/export.zip                    200   200    200    404     sign-in
POST   /revisions/{revision_id}/restore/                      302   302    403    404     sign-in
POST   /revisions/{revision_id}/subset/                       302   302    403    404     sign-in
GET    /uploads/{upload_id}/                                  200   200    200    404     sign-in
POST   /uploads/{upload_id}/                                  204   204    403    404     sign-in
DELETE /uploads/{upload_id}/                                  204   204    403    404     sign-in
OPTIONS /uploads/{upload_id}/                                 204   204    403    404     sign-in
GET    /uploads/{upload_id}/left-out.csv                      200   200    200    404     sign-in
GET    /items/{item_id}/                                      200   200    200    404     sign-in
GET    /items/{item_id}/around.json                           200   200    200    404     sign-in
GET    /items/{item_id}/thumbnail.webp                        200   200    200    404     sign-in
GET    /items/{item_id}/image.png                             200   200    200    404     sign-in
GET    /items/{item_id}/tiles/{level}/{column}-{row}.png      200   200    200    404     sign-in
GET    /items/{item_id}/masks/{layer}.png                     200   200    200    404     sign-in
GET    /items/{item_id}/colours/{artifact_id}.png             200   200    200    404     sign-in
GET    /items/{item_id}/histogram.json                        200   200    200    404     sign-in

GET    /jobs/{job_id}/                                        200   200    200    404     sign-in
GET    /jobs/{job_id}/events.json                             200   200    200    404     sign-in
GET    /jobs/{job_id}/points.csv                              200   200    200    404     sign-in
GET    /jobs/{job_id}/record.json                             200   200    200    404     sign-in
GET    /jobs/{job_id}/log.txt                                 200   200    200    404     sign-in
GET    /jobs/{job_id}/images/                                 200   200    200    404     sign-in
POST   /jobs/{job_id}/{action}/                               302   302    403    404     sign-in
GET    /artifacts/{artifact_id}/{name}                        200   200    200    404     sign-in
GET    /queue/                                                200   200    200    200     sign-in
POST   /queue/{job_id}/move/                                  302   302    403    404     sign-in
GET    /experiments/{experiment_id}/                          200   200    200    404     sign-in

GET    /api/v1/                                               404   404    404    404     404
GET    /api/v1/openapi.json                                   200   200    200    200     200
GET    /api/v1/projects                                       200   200    200    200     401
GET    /api/v1/datasets                                       200   200    200    200     401
GET    /api/v1/datasets/{dataset_id}                          200   200    200    404     401
GET    /api/v1/datasets/{dataset_id}/items                    200   200    200    404     401
GET    /api/v1/datasets/items/{item_id}                       200   200    200    404     401
GET    /api/v1/datasets/{dataset_id}/split                    200   200    200    404     401
POST   /api/v1/datasets/{dataset_id}/split                    201   201    403    404     401
GET    /api/v1/datasets/revisions/{revision_id}/export        200   200    200    404     401
POST   /api/v1/datasets/{dataset_id}/items/label              201   201    403    404     401
POST   /api/v1/datasets/{dataset_id}/items/split              201   201    403    404     401
POST   /api/v1/datasets/{dataset_id}/items/pixel-size         201   201    403    404     401
POST   /api/v1/datasets/{dataset_id}/items/invert             201   201    403    404     401
POST   /api/v1/datasets/{dataset_id}/items/remove             201   201    403    404     401
POST   /api/v1/datasets/revisions/{revision_id}/restore       409   409    403    404     401
GET    /api/v1/kinds                                          200   200    200    200     401
GET    /api/v1/jobs                                           200   200    200    200     401
POST   /api/v1/jobs                                           201   201    403    404     401
GET    /api/v1/jobs/{job_id}                                  200   200    200    404     401
GET    /api/v1/jobs/{job_id}/events                           200   200    200    404     401
POST   /api/v1/jobs/{job_id}/move                             200   200    403    404     401
POST   /api/v1/jobs/{job_id}/{action}                         200   200    403    404     401

WS     /ws/jobs/{job_id}/                                     told  told   told   4404    4404
HEAD   /uploads/{upload_id}/                                  200   200    403    404     401
PATCH  /uploads/{upload_id}/                                  204   204    403    404     401
"""
"""Status codes. The last block is answered beside Django: sockets, by their code of closing, and pieces of uploads."""


@dataclass(frozen=True)
class Row:
    method: str
    path: str
    answers: dict[str, int | str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def of_api(self) -> bool:
        return self.path.startswith("/api/")

    @property
    def changes(self) -> bool:
        return self.method not in ("GET", "HEAD", "OPTIONS", "WS")


def _rows() -> Iterator[Row]:
    for line in TABLE.strip().splitlines()[1:]:
        if line:
            method, path, *answers = line.split()
            told = (int(answer) if answer.isdigit() else answer for answer in answers)
            yield Row(method, path, dict(zip(PEOPLE, told, strict=True)))


ROWS = list(_rows())
BESIDE = [row for row in ROWS if row.method in ("WS", "HEAD", "PATCH")]
"""What never reaches Django's views."""
ASKED = [row for row in ROWS if row not in BESIDE]


def routes() -> set[str]:
    """Every address that the resolver and the router of sockets know, as the table writes it."""

    def walk(patterns: list[Any], before: str) -> Iterator[str]:
        for one in patterns:
            path = before + str(one.pattern)
            if isinstance(one, URLResolver):
                yield from walk(one.url_patterns, path)
            else:
                yield re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", path)

    return {*walk(get_resolver().url_patterns, "/"), *walk(websocket_urlpatterns, "/")}


TUS = {"Tus-Resumable": "1.0.0"}
NAMED = {"Upload-Length": "10", "Upload-Metadata": f"filename {base64.b64encode(b'slice.png').decode()}"}
HEADERS = {
    "POST /datasets/{dataset_id}/uploads/": NAMED,
    "POST /uploads/{upload_id}/": {"X-HTTP-Method-Override": "DELETE"},
}
FORMS: dict[str, dict[str, Any]] = {
    "GET /search/": {"q": SECRET[:4]},
    "POST /account/": {"new_password1": "a word", "new_password2": "another"},
    "POST /projects/new/": {"name": "Liver"},
    "POST /projects/{project_id}/datasets/new/": {"name": "Liver"},
    "POST /projects/{project_id}/experiments/new/": {"dataset": "{dataset_id}"},
    "POST /datasets/{dataset_id}/edit/": {"do": "label", "label": "fly", "all": "1", "base": "1"},
    "POST /datasets/{dataset_id}/list.csv": {"all": "1"},
    "POST /datasets/{dataset_id}/split/": {"validation": "50", "test": "0", "base": "1"},
    "POST /datasets/{dataset_id}/kind/": {"kind": "photographs", "base": "1"},
    "POST /datasets/{dataset_id}/classes/": {"layer": "cell", "value": "1", "name-1": "cell", "base": "1"},
    "POST /datasets/{dataset_id}/masks/": {"do": "detach", "layer": "cell", "item": "{item_id}", "base": "1"},
    "POST /revisions/{revision_id}/restore/": {"base": "1"},
    "POST /revisions/{revision_id}/subset/": {"name": "A part", "seed": "0"},
    "POST /queue/{job_id}/move/": {"where": "front"},
}
BODIES: dict[str, dict[str, Any]] = {
    "POST /api/v1/datasets/{dataset_id}/split": {"base": 1, "validation": 0.5, "test": 0},
    "POST /api/v1/datasets/{dataset_id}/items/label": {"base": 1, "filters": {}, "label": "fly"},
    "POST /api/v1/datasets/{dataset_id}/items/split": {"base": 1, "filters": {}, "split": "validation"},
    "POST /api/v1/datasets/{dataset_id}/items/pixel-size": {"base": 1, "filters": {}, "pixel_size_nm": 5},
    "POST /api/v1/datasets/{dataset_id}/items/invert": {"base": 1, "filters": {}},
    "POST /api/v1/datasets/{dataset_id}/items/remove": {"base": 1, "filters": {"split": "test"}},
    "POST /api/v1/datasets/revisions/{revision_id}/restore": {"base": 1},
    "POST /api/v1/jobs/{job_id}/move": {"to": "front"},
}
"""What is sent so that whoever may gets something done."""
