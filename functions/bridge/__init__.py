"""The bridge: any SQS queue to a Pub/Sub topic and back."""
