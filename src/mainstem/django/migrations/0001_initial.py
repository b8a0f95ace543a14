"""The tables of the outbox and the inbox, as `manage.py makemigrations` writes them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = ()

    operations = (
        migrations.CreateModel(
            name="InboxEvent",
            fields=[
                ("digest", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("group_name", models.CharField(max_length=249)),
                ("event_id", models.TextField()),
                ("time_ms", models.BigIntegerField(db_index=True)),
            ],
            options={
                "db_table": "mainstem_inbox",
            },
        ),
        migrations.CreateModel(
            name="OutboxEvent",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("source", models.CharField(max_length=100)),
                ("topic", models.CharField(max_length=249)),
                ("key", models.BinaryField(null=True)),
                ("value", models.BinaryField(null=True)),
                ("headers", models.BinaryField(null=True)),
                ("time_ms", models.BigIntegerField()),
                ("refused", models.CharField(max_length=500, null=True)),
            ],
            options={
                "db_table": "mainstem_outbox",
                "indexes": [models.Index(fields=["source", "id"], name="mainstem_outbox_source_id")],
            },
        ),
        migrations.CreateModel(
            name="OutboxMark",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("source", models.CharField(max_length=100)),
                ("topic_digest", models.CharField(max_length=64)),
                ("topic", models.CharField(max_length=249)),
                ("topic_id", models.CharField(max_length=64)),
                ("offsets", models.TextField()),
                ("is_open", models.BooleanField()),
            ],
            options={
                "db_table": "mainstem_outbox_marks",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("source", "topic_digest"), name="mainstem_outbox_marks_topic"
                    )
                ],
            },
        ),
    )
