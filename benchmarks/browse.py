"""The dataset's page, its filters and its JSON at 500,000 items beside the same at 1,000.

`python -m benchmarks.browse` starts a PostgreSQL of its own, makes the rows (`--items`, `--rounds` for a shorter run),
writes their revision down as an edit does, and asks a real uvicorn over a socket. Labels stand together, as in a corpus
whose folders are its organisms; splits are scattered; a stack has 500 slices; one image in ten has a mask, one in
a thousand a problem.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from webapp.local.servers import Postgres

SMALL = 1000
AIM_MS, AIM_RATIO = 150.0, 1.5
WARMING = 3
"""Rounds that do not count: templates are compiled, the database fills its cache."""

CASES = {
    "page": "",
    "page in the middle": "?after={middle}",
    "split": "?split=validation",
    "label": "?label=organism 24",
    "two labels": "?label=organism 03&label=organism 24",
    "no label": "?label=(none)",
    "mask": "?mask=mito",
    "without mask": "?mask=unpaired",
    "group": "?group=stack-{stack}",
    "problem": "?problem=duplicate",
    "pixel size unknown": "?size=unknown",
    "name": "?name=slice {last}",
    "name that many have": "?name=slice 12",
    "split and label": "?split=test&label=organism 24",
    "mask and label": "?mask=mito&label=organism 20",
    "problem and split": "?problem=duplicate&split=validation",
    "group and mask": "?group=stack-{stack}&mask=paired",
}
ROWS = """
INSERT INTO datasets_item (dataset_id, added_in, position, name, image, page, width, height, dtype, low, high,
    thumbnail, masks, label, "group", "index", pixel_size_nm, split, problems, facts)
SELECT %(dataset)s, 1, n * 1000::bigint, format('organism_%%s/stack-%%s/slice_%%s.tif', n * 25 / %(count)s, n / 500, n),
    md5(n::text) || md5(n::text), 0, 224, 224, 'uint8', 0, 255, md5(n::text) || md5((-n)::text),
    CASE WHEN n %% 10 = 0 THEN jsonb_build_object('mito', jsonb_build_object('sha256', md5(n::text) || md5(n::text),
        'page', 0, 'name', n || '.tif', 'rule', 'folder', 'values', jsonb_build_object('0', 40000, '255', 10176)))
        ELSE '{}' END,
    CASE WHEN n * 25 / %(count)s = 0 THEN '' ELSE 'organism ' || lpad((n * 25 / %(count)s)::text, 2, '0') END,
    'stack-' || n / 500, n %% 500, CASE WHEN n %% 50 = 7 THEN NULL ELSE 8 END,
    (ARRAY['train', 'train', 'validation', 'test', ''])[1 + (n::bigint * 7919) %% 5],
    CASE WHEN n %% 1000 = 13 THEN '[{"kind": "duplicate", "text": "The same image as another."}]'::jsonb ELSE '[]' END,
    '{}'
FROM generate_series(0, %(count)s - 1) AS n
"""


@dataclass(frozen=True)
class Times:
    p50: float
    p95: float


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """Django on a database of its own, served by uvicorn; yields the port."""
    postgres = Postgres(folder / "pg")
    postgres.start()
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "CRISTAE_SECRET_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": postgres.url,
        "REDIS_URL": "redis://127.0.0.1:1",  # no page of a dataset uses it
        "CRISTAE_DATA": str(folder / "data"),
    }
    try:
        import django

        django.setup()
        import uvicorn
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        from webapp.asgi import application

        config = uvicorn.Config(application, host="127.0.0.1", port=0, log_level="warning", lifespan="off")
        web = uvicorn.Server(config)
        thread = threading.Thread(target=web.run, daemon=True)
        thread.start()
        while not web.started:
            time.sleep(0.01)
        yield web.servers[0].sockets[0].getsockname()[1]
        web.should_exit = True
        thread.join(20)
    finally:
        postgres.stop()


def make(count: int) -> int:
    """A dataset of `count` rows and its revision; returns its id."""
    from django.db import connection, transaction

    from webapp.datasets.revisions.manifests import revision_create
    from webapp.datasets.services import dataset_create
    from webapp.projects.models import Project, User

    user = User.objects.get(username="reader")
    dataset = dataset_create(project=Project.objects.get(), user=user, name=f"{count} items")
    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(ROWS, {"dataset": dataset.pk, "count": count})
    made = time.perf_counter()
    with transaction.atomic():
        revision_create(dataset, number=1, change="All added.", user=user)
    print(f"{count:,} rows in {made - began:.1f} s, their revision in {time.perf_counter() - made:.1f} s", flush=True)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE datasets_item")
    return dataset.pk


def cookie() -> str:
    from django.conf import settings
    from django.test import Client

    from webapp.projects.models import User

    client = Client()
    client.force_login(User.objects.get(username="reader"))
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


def addresses(dataset: int, count: int) -> dict[str, str]:
    """The requested paths by name: a page and a JSON of every case, and the page of one item."""
    from webapp.datasets.models import Item

    middle = Item.objects.get(dataset=dataset, position=count // 2 * 1000)
    known = {
        "middle": f"{middle.position}_{middle.pk}",
        "stack": str((count - 1) // 500),
        "last": str(count - 1),
    }
    asked = {}
    for name, query in CASES.items():
        query = query.format(**known).replace(" ", "%20")
        asked[name] = f"/datasets/{dataset}/{query}"
        asked[f"{name}, JSON"] = f"/api/v1/datasets/{dataset}/items{query or '?'}&limit=60"
    asked["one item"] = f"/items/{middle.pk}/"
    asked["one item of a label"] = f"/items/{middle.pk}/?label=organism%2012"
    return asked


def measure(port: int, paths: Sequence[str], *, cookie: str, rounds: int) -> list[Times]:
    """Requests the paths in turn, so that a busy moment of the machine affects all of them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    taken: list[list[float]] = [[] for _ in paths]
    for number in range(-WARMING, rounds):
        for path, times in zip(paths, taken, strict=True):
            began = time.perf_counter()
            connection.request("GET", path, headers={"Cookie": cookie})
            answer = connection.getresponse()
            body = answer.read()
            if number >= 0:
                times.append(1000 * (time.perf_counter() - began))
            if answer.status != 200 or b"organism" not in body:
                raise SystemExit(f"{path} answered {answer.status} with {body[:200]!r}")
    connection.close()
    return [Times(statistics.median(times), statistics.quantiles(times, n=20)[-1]) for times in taken]


def compare(port: int, *, items: int, rounds: int, only: str) -> list[dict[str, object]]:
    from webapp.projects.models import User
    from webapp.projects.services import project_create

    project_create(user=User.objects.create_user("reader", "reader@example.org"), name="Corpus")
    small, large = (addresses(make(count), count) for count in (SMALL, items))
    signed = cookie()
    checks: list[dict[str, object]] = []
    print(f"{'milliseconds':28} {'p50 at 1,000':>13} {f'p50 at {items:,}':>15} {'ratio':>6} {'p95':>7}")
    for name in small:
        if only and only not in name:
            continue
        few, many = measure(port, (small[name], large[name]), cookie=signed, rounds=rounds)
        ratio = many.p50 / few.p50
        print(f"{name:28} {few.p50:13.1f} {many.p50:15.1f} {ratio:6.2f} {many.p95:7.1f}", flush=True)
        checks.append(_check(f"{name}: ratio", ratio, AIM_RATIO))
        checks.append(_check(f"{name}: p95, ms", many.p95, AIM_MS))
    return checks


def _check(name: str, value: float, aim: float) -> dict[str, object]:
    return {"name": name, "value": round(value, 3), "aim": aim, "ok": value <= aim}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=500_000, help="how many items the large dataset has (500,000)")
    parser.add_argument("--rounds", type=int, default=40, help="how often each address is asked (40)")
    parser.add_argument("--only", default="", help="only the addresses whose name contains this")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cristae-browse-") as folder, server(Path(folder)) as port:
        checks = compare(port, items=args.items, rounds=args.rounds, only=args.only)
    print(json.dumps({"checks": checks}))


if __name__ == "__main__":
    main()
