"""AWS Lambda on this machine: unpacked archives, real runtimes, the runtime API, pools with limits."""
