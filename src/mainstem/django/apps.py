"""The Django app `mainstem.django`."""

from django.apps import AppConfig


class MainstemConfig(AppConfig):
    """The app; its tables begin with `mainstem_`."""

    name = "mainstem.django"
    label = "mainstem"
    verbose_name = "mainstem"
    default_auto_field = "django.db.models.BigAutoField"
