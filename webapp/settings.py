"""All settings. Each variable is read by a strict reader and explained in `.env.example`."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from webapp import environment as env

ROOT = Path(__file__).resolve().parent.parent

# --- where things lie -------------------------------------------------------------------------------------------

DATA = env.folder("CRISTAE_DATA", ROOT / "var")
"""Everything that must survive: blobs, job folders, and the database where `manage.py up` runs its own."""

BLOBS = DATA / "blobs"
JOBS = DATA / "jobs"
SPOOL = DATA / "spool"
PREPARED = DATA / "prepared"
RUN = env.folder("CRISTAE_RUN", DATA / "run")
"""Sockets and locks of this host: must be a local disk."""

# --- the server's address decides on TLS ---------------------------------------------------------------------------

URL = env.text("CRISTAE_URL", "http://127.0.0.1:8000").rstrip("/")
_url = urlsplit(URL)
if _url.scheme not in {"http", "https"} or not _url.hostname:
    raise ImproperlyConfigured(f"CRISTAE_URL={URL!r}is not an address: write http://host:port or https://host.")
SECURE = _url.scheme == "https"
LOOPBACK = _url.hostname in {"127.0.0.1", "localhost", "::1"}
PLAIN_HTTP_WARNING = not SECURE and not LOOPBACK

COMMIT = env.text("CRISTAE_COMMIT", "")
"""What an image was built from; a checkout asks git."""

DEBUG = env.boolean("CRISTAE_DEBUG", False)
_TESTING = "pytest" in sys.modules
SECRET_KEY = env.text("CRISTAE_SECRET_KEY", "tests-only-" + "x" * 50 if _TESTING else None)
if len(SECRET_KEY) < 50 and not _TESTING:
    raise ImproperlyConfigured(
        "CRISTAE_SECRET_KEY is shorter than 50 characters. Make one: "
        "python3 -c 'import secrets; print(secrets.token_urlsafe(64))'"
    )
ALLOWED_HOSTS = [_url.hostname, *env.words("CRISTAE_EXTRA_HOSTS")]
if LOOPBACK:
    ALLOWED_HOSTS += ["127.0.0.1", "localhost", "[::1]"]
if _TESTING:
    ALLOWED_HOSTS += ["testserver"]
CSRF_TRUSTED_ORIGINS = [URL]

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SECURE_SSL_REDIRECT = SECURE and env.boolean("CRISTAE_REDIRECT_TO_HTTPS", True)
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
if env.boolean("CRISTAE_BEHIND_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:", "blob:"],
        "connect-src": ["'self'", URL.replace("http", "ws", 1)],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- applications -----------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "webapp.projects",
    "webapp.datasets",
    "webapp.jobs",
    "webapp.registry",
    "webapp.experiments",
    "webapp.home",
    "webapp.api",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "axes",
    "channels",
    "csp",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "webapp.urls"
ASGI_APPLICATION = "webapp.asgi.application"
AUTH_USER_MODEL = "projects.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "projects/sign_in_locked.html"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "webapp" / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "webapp.context_processors.frame",
            ],
            "libraries": {"cristae": "webapp.template_tags"},
            "builtins": ["webapp.template_tags", "django.contrib.humanize.templatetags.humanize"],
        },
    }
]
LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = env.text("CRISTAE_TIME_ZONE", "UTC")
USE_THOUSAND_SEPARATOR = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 2**20

STATIC_URL = "static/"
STATIC_ROOT = ROOT / "webapp" / "static" / "collected"
FRONTEND = ROOT / "webapp" / "static" / "built"
"""Vite's output with its manifest; `webapp.template_tags` looks file names up there."""
STATICFILES_DIRS = [FRONTEND] if FRONTEND.is_dir() else []
WHITENOISE_USE_FINDERS = True
WHITENOISE_IMMUTABLE_FILE_TEST = r"^.+-[0-9A-Za-z_-]{8,}\.\w+$"

STORAGES = {
    "default": {"BACKEND": "webapp.datasets.storage.BlobStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

# --- database and broker ------------------------------------------------------------------------------------------


def _database(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            f"DATABASE_URL begins with {parts.scheme!r}: Cristae runs on PostgreSQL, postgresql://user:password@host/name."
        )
    host = parts.hostname or ""
    if "host=" in parts.query:  # a Unix socket: postgresql://user:password@/name?host=/folder
        host = dict(p.split("=", 1) for p in parts.query.split("&"))["host"]
    connections = env.integer("CRISTAE_DATABASE_POOL", 16, least=0, most=200)
    # A pool that cannot connect says so at the next question, and does not sit out a pause that has grown to minutes.
    pool = {"min_size": 0, "max_size": connections, "timeout": 10, "reconnect_timeout": 1}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(host),
        "PORT": parts.port or "",
        "CONN_MAX_AGE": 0,
        # One empty round trip per request, so that a restart of the database costs no request after it.
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            # 0, as the worker sets it: each thread keeps a connection of its own and learns at once that it is gone.
            "pool": pool if connections else False,
            "connect_timeout": 5,
            "tcp_user_timeout": 10_000,
        },
    }


DATABASE_URL = env.text("DATABASE_URL")
REDIS_URL = env.text("REDIS_URL")
DATABASES = {"default": _database(DATABASE_URL)}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # The layer waits 5 s at a time for a message; the client would give up after the same 5 s.
            "hosts": [{"address": REDIS_URL, "socket_timeout": 30, "socket_connect_timeout": 3}],
            "capacity": env.integer("CRISTAE_CHANNEL_CAPACITY", 100, least=1, most=100_000),
        },
    }
}

# --- the queue ----------------------------------------------------------------------------------------------------

LEASE_SECONDS = env.number("CRISTAE_LEASE_SECONDS", 30, least=1, most=3600)
"""A worker that has not renewed its lease for so long has lost its job."""
RENEW_SECONDS = LEASE_SECONDS / 6
HINT_AGAIN_SECONDS = env.number("CRISTAE_HINT_AGAIN_SECONDS", 5, least=0.2, most=600)
DEVICES = env.words("CRISTAE_DEVICES")
"""Devices of this host, as `cuda:0,cuda:1` or `cpu`. Empty: all GPUs, or else the CPU."""
TRAINER = env.text("CRISTAE_TRAINER", "forkserver")
"""`forkserver`, `process` (a fresh interpreter per job), or a command that speaks the trainer's contract."""
PROJECT_QUOTA = env.integer("CRISTAE_PROJECT_QUOTA_GB", 1000, least=1, most=1_000_000) * 10**9

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {
        "handlers": ["console"],
        "level": env.choice("CRISTAE_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
    },
    "loggers": {"axes": {"level": "WARNING"}, "daphne": {"level": "WARNING"}},
}
