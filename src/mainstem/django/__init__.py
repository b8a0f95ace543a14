"""mainstem in a Django project: the outbox, the inbox, and a command that runs the subscribers.

    INSTALLED_APPS = [..., "mainstem.django"]       # settings.py; then: manage.py migrate

Needs Django 5.2 or later: `pip install mainstem[django]`. Owns: the models of the tables, their migration,
and their statements. Refuses: the relay, which `mainstem.outbox` has. The names are in
`mainstem.django.outbox`, `mainstem.django.inbox` and `mainstem.django.command`, for models cannot be
imported before Django is set up.
"""
