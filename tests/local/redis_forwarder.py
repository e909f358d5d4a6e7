"""A forwarder as a process of its own, for tests that kill it: python redis_forwarder.py REDIS_URL INSTANCE PROJECT NAME."""

import sys
import threading

from functions.features.redis.forward import forward_until
from functions.features.redis.seed_api import CrossCloudFeatureStore

if __name__ == "__main__":
    url, instance, project, name = sys.argv[1:]
    store = CrossCloudFeatureStore(url, instance, project=project, forward=False)
    store.forwarder.consumer = name
    store.forwarder.idle_ms = 300
    forward_until(store.forwarder, threading.Event())
