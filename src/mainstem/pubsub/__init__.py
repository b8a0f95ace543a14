"""The model of Google Cloud Pub/Sub over topics and subscriptions of the log, without a wire."""
