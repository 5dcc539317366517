"""One check per part of the server: a sentence about its state and, if there is a problem, about the remedy."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import time

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from webapp.broker import redis_client
from webapp.doctor.findings import Check, Finding
from webapp.jobs.estimates.memory import gib
from webapp.jobs.lifecycle import heartbeats
from webapp.jobs.models import Queue, device_name
from webapp.template_tags import manifest, size

LEAST_FREE = 10 * 10**9
"""Below this the next large upload or checkpoint may not fit."""
LEAST_MEMORY = 2 * 2**30
"""Below this a job on the CPU, or the reading of a large stack, may be ended by the system."""
MOST_SKEW = 5.0
"""Seconds by which clocks may differ before the times on pages mislead."""


def _database() -> Finding:
    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version')")
        version = cursor.fetchone()[0].split()[0]
    return Finding("Database", "done", f"PostgreSQL {version} answered in {_milliseconds(began)}.")


def _tables() -> Finding:
    executor = MigrationExecutor(connection)
    missing = [str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    if missing:
        says = f"{len(missing)} migrations are not applied, the first: {missing[0]}."
        return Finding("Tables", "failed", says, "Run `python manage.py migrate`, then restart everything.")
    return Finding("Tables", "done", "All migrations are applied.")


def _clocks() -> Finding:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        off = float(cursor.fetchone()[0]) - time.time()
    says = f"The database's clock and the web's differ by {abs(off):.1f} s."
    if abs(off) > MOST_SKEW:
        return Finding("Clocks", "warning", says, "Synchronise both clocks with the same time server (NTP).")
    return Finding("Clocks", "done", says)


def _broker() -> Finding:
    began = time.perf_counter()
    try:
        with redis_client() as client:
            version = client.info("server")["redis_version"]
    except redis.RedisError as error:
        says = f"Redis does not answer ({error}). Queued jobs wait and are safe; pages update more slowly."
        return Finding("Broker", "failed", says, "Start Redis, or correct REDIS_URL.")
    return Finding("Broker", "done", f"Redis {version} answered in {_milliseconds(began)}.")


def _reaper() -> Finding:
    try:
        silent = heartbeats.reaper_silence()
    except redis.RedisError:
        return Finding("Reaper", "warning", "Not known while the broker does not answer.", "See Broker.")
    if silent is None or silent > heartbeats.SILENT_SECONDS:
        since = "No reaper has been heard from" if silent is None else f"The reaper has been silent for {silent} s"
        says = f"{since}. A job whose worker dies is not started again, and jobs that wait for others do not start."
        return Finding("Reaper", "failed", says, "Start it: `python manage.py reapjobs`, or its service of compose.")
    return Finding("Reaper", "done", f"It looked at all jobs {silent} s ago.")


def _workers() -> Finding:
    found = heartbeats.workers()
    heard = {worker["queue"] for worker in found if worker["seen_seconds"] <= heartbeats.SILENT_SECONDS}
    missing = [queue for queue in Queue.values if queue not in heard]
    start = "Start one: `python manage.py work`, or the worker service of compose."
    if not found:
        says = "No worker has been heard from. Queued jobs wait and are safe."
        return Finding("Workers", "failed", says, start)
    seen = "; ".join(f"{w['host']} {w['queue']}, {w['seen_seconds']} s ago" for w in found)
    if missing:
        says = f"No worker serves: {', '.join(missing)}. Last seen: {seen}."
        return Finding("Workers", "warning", says, f"{start} Restart one that has stopped responding.")
    return Finding("Workers", "done", f"{seen}.")


def _devices() -> Finding:
    workers = [worker for worker in heartbeats.workers() if worker["queue"] == Queue.DEVICE]
    devices = [(worker, str(device)) for worker in workers for device in worker["devices"]]
    if not devices:
        return Finding("Devices", "warning", "No worker has reported its devices.", "See Workers.")
    says = " ".join(f"{_device(worker, device)}." for worker, device in devices)
    if all(device.startswith("cpu") for _, device in devices):
        says += " There is no GPU: the preset quick takes minutes, the others days."
    return Finding("Devices", "done", says)


def _device(worker: dict[str, object], device: str) -> str:
    """ "GPU 0 of lab-2, NVIDIA H200, driver 570.86: 78 of 139 GiB free" """
    name = device_name(device, host=str(worker["host"]))
    gpus = worker.get("gpus")
    gpu = gpus.get(device) if isinstance(gpus, dict) else None
    if not gpu:
        return name
    driver = f", driver {gpu['driver']}" if gpu.get("driver") else ""
    return f"{name}, {gpu['name']}{driver}: {gib(gpu['total'] - gpu['used'])} of {gib(gpu['total'])} GiB free"


def _memory() -> Finding:
    """Memory of every host with a worker, as the workers report it."""
    hosts = {w["host"]: w["memory"] for w in heartbeats.workers() if w.get("memory")}
    if not hosts:
        return Finding("Memory", "warning", "No worker has reported the memory of its machine.", "See Workers.")
    says = "; ".join(f"{host} has {gib(m['free'])} of {gib(m['total'])} GiB free" for host, m in hosts.items()) + "."
    if any(memory["free"] < LEAST_MEMORY for memory in hosts.values()):
        return Finding("Memory", "warning", says, "Stop other programs there, or use smaller batches.")
    return Finding("Memory", "done", says)


def _disk() -> Finding:
    usage = shutil.disk_usage(settings.DATA)
    says = f"{size(usage.free)} free of {size(usage.total)} at {settings.DATA}."
    if not os.access(settings.DATA, os.W_OK):
        says = f"{settings.DATA} cannot be written to."
        return Finding("Disk", "failed", says, "Give the server's user write permission there.")
    if usage.free < LEAST_FREE:
        missing = size(LEAST_FREE - usage.free)
        return Finding(
            "Disk", "warning", says, f"Free {missing}, or move {settings.DATA} to a larger disk (CRISTAE_DATA)."
        )
    return Finding("Disk", "done", says)


def _front_end() -> Finding:
    if "frame.ts" not in manifest():
        return Finding("Front end", "failed", "The scripts and styles are not built.", "Run `make setup`.")
    return Finding("Front end", "done", "Scripts and styles are built.")


def _trainer() -> Finding:
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            "Trainer", "done", "The web server has no PyTorch installed, which is as intended in containers."
        )
    return Finding("Trainer", "done", f"PyTorch {version}, started by {settings.TRAINER}. Self-test tries it.")


CHECKS: dict[str, Check] = {
    "Database": _database,
    "Tables": _tables,
    "Clocks": _clocks,
    "Broker": _broker,
    "Reaper": _reaper,
    "Workers": _workers,
    "Devices": _devices,
    "Memory": _memory,
    "Disk": _disk,
    "Front end": _front_end,
    "Trainer": _trainer,
}


def _milliseconds(began: float) -> str:
    spent = (time.perf_counter() - began) * 1000
    return "under 1 ms" if spent < 1 else f"{spent:.0f} ms"
