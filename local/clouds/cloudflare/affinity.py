"""Session affinity by cookie: which endpoint a client is pinned to. Pure.

The cookie names an endpoint by a digest of its pool and name, so it says nothing about the sites and can only ever mean
an endpoint that exists (developers.cloudflare.com/load-balancing/understand-basics/session-affinity).
"""

import hashlib
from http.cookies import CookieError, SimpleCookie

from local.clouds.cloudflare.settings import Balancer
from local.clouds.cloudflare.steering import Choice, IsUp, usable_origins

COOKIE = "__cflb"


def token(choice: Choice) -> str:
    """Return the cookie's value for an endpoint."""
    return hashlib.blake2b(f"{choice.pool.id}\0{choice.origin.name}".encode(), digest_size=12).hexdigest()


def pinned_choice(balancer: Balancer, cookie_header: str | None, is_up: IsUp) -> Choice | None:
    """Return the endpoint of the client's session while it is enabled and healthy, else None."""
    if balancer.affinity is None or not cookie_header or COOKIE not in cookie_header:
        return None
    try:
        morsel = SimpleCookie(cookie_header).get(COOKIE)
    except CookieError:
        return None
    if morsel is None:
        return None
    for pool in balancer.pools.values():
        if not pool.enabled:
            continue
        for origin in usable_origins(pool, is_up):
            choice = Choice(pool, origin)
            if token(choice) == morsel.value:
                return choice
    return None


def set_cookie(choice: Choice, ttl_seconds: int) -> tuple[bytes, bytes]:
    """Return the header that pins a client to an endpoint."""
    value = f"{COOKIE}={token(choice)}; Path=/; Max-Age={ttl_seconds}; HttpOnly; SameSite=Lax"
    return b"set-cookie", value.encode()
