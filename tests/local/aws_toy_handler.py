"""A function for tests: it writes down what it gets and fails as its records say. Packed into archives, never imported."""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path


def handle(event, context):
    if "Records" in event:
        return {"batchItemFailures": _take(event["Records"], context)}
    if "sleep" in event:
        time.sleep(event["sleep"])
    if "exit" in event:
        os._exit(event["exit"])
    if "raise" in event:
        raise ValueError(event["raise"])
    return {
        "file": __file__,
        "environment": dict(os.environ),
        "importable": [name for name in ("functions", "infra", "local", "boto3") if importlib.util.find_spec(name)],
        "path": sys.path,
        "left_ms": context.get_remaining_time_in_millis(),
        "arn": context.invoked_function_arn,
        "process": os.getpid(),
    }


def _take(records, context):
    failures = []
    for record in records:
        identifier, orders = _read(record)
        _write({"request": context.aws_request_id, "record": record, "at": time.time()})
        if "sleep" in orders:
            time.sleep(float(orders["sleep"]))
        if "crash" in orders:
            os._exit(1)
        if "raise" in orders:
            raise ValueError("poison")
        if "poison" in orders:
            failures.append({"itemIdentifier": identifier})
    return failures


def _read(record):
    if record["eventSource"] == "aws:sqs":
        body = json.loads(record["body"])
        return record["messageId"], body if isinstance(body, dict) else {}
    image = record["dynamodb"].get("NewImage", {})
    return record["dynamodb"]["SequenceNumber"], {name: next(iter(value.values())) for name, value in image.items()}


def _write(entry):
    with Path(os.environ["RECORDS_FILE"]).open("a") as file:
        file.write(json.dumps(entry) + "\n")
