"""The Celery app of the web server, which sends tasks by name and defines none, and the connection to Redis."""

import redis
from celery import Celery
from django.conf import settings

# Celery's URL of a Unix socket differs from redis-py's.
BROKER_URL = settings.REDIS_URL.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")

app = Celery("cristae", broker=BROKER_URL)
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    # The database row is authoritative and a message only a hint: it may be lost, or arrive twice, without harm.
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    task_default_queue="io",
    broker_connection_retry_on_startup=True,
    broker_transport_options={"socket_connect_timeout": 3, "socket_timeout": 30, "max_retries": 2},
    worker_hijack_root_logger=False,
    timezone="UTC",
)


def redis_client() -> redis.Redis:
    """A new connection, to be closed by `with`. Its commands raise redis.RedisError within seconds if Redis is away."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=3, socket_timeout=3)
