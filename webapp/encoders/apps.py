from django.apps import AppConfig


class EncodersConfig(AppConfig):
    name = "webapp.encoders"
