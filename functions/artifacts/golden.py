"""Golden inference: the service itself is asked whether it can serve a version, before an alias may point to it.

The hook is one HTTP call, so that functions need nothing of the service and a user's own container only has to answer it:
POST <url> with {"model", "version", "site"} gives 200 and {"passed": true or false, "detail": text}. The service reads the
version from its own site's bucket. A service that does not answer is no reason to refuse a version: it may not be up yet,
and every host proves a version once more before it serves it. That is written down with the verdict.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functions.settings import Site

# Loading a model of several gigabytes and one inference.
GOLDEN_SECONDS = 120.0
CONNECT_SECONDS = 3.0
MOST_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True)
class GoldenResult:
    """What the service said; `passed` is None if it said nothing."""

    passed: bool | None
    detail: str


Golden = Callable[[str, str], GoldenResult]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    passed: bool
    detail: Annotated[str, Field(max_length=2_000)] = ""


def ask(url: str, hostname: str, site: Site, proxy: str = "") -> Golden:
    """Return the hook that asks a service at `url`.

    `hostname` is the name on its certificate, which a site's own address is not; `proxy` is the way to it where there is one.
    """

    def golden(model: str, version: str) -> GoldenResult:
        import urllib3

        # A certificate is asked for and checked under the public name.
        names = {"server_hostname": hostname, "assert_hostname": hostname}
        tls: dict[str, Any] = names if url.startswith("https:") else {}
        limits = urllib3.Timeout(connect=CONNECT_SECONDS, read=GOLDEN_SECONDS)
        body = json.dumps({"model": model, "version": version, "site": site.value}).encode()
        headers = (
            {"Content-Type": "application/json", "Host": hostname} if hostname else {"Content-Type": "application/json"}
        )
        pool = urllib3.ProxyManager(proxy, **tls) if proxy else urllib3.PoolManager(**tls)
        try:
            answer = pool.request(
                "POST", url, body=body, headers=headers, timeout=limits, retries=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            return GoldenResult(None, f"the service at {url} does not answer: {type(error).__name__}")
        if answer.status != 200 or len(answer.data) > MOST_ANSWER_BYTES:
            return GoldenResult(None, f"the service at {url} answers {answer.status} to a golden request")
        try:
            found = _Answer.model_validate_json(answer.data)
        except ValidationError:
            return GoldenResult(None, f"the service at {url} answers a golden request with something else")
        return GoldenResult(found.passed, found.detail)

    return golden
