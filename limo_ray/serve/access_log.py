"""The access log: a line for each request, on stderr unless `limo_ray.access` has a handler."""

import logging

from limo_ray.serve.request_context import RequestContext

access = logging.getLogger("limo_ray.access")


def set_up() -> None:
    access.setLevel(logging.INFO)
    if not access.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        access.addHandler(handler)


def write(context: RequestContext) -> None:
    """The line of a request that is over. What a client made up is written in ASCII, cut."""
    method, path = ascii(context.method[:10])[1:-1], ascii(context.path[:80])[1:-1]
    parts = [f"{method} {path} {context.status}"]
    if context.disconnected:
        parts.append("gone")
    parts.append(f"key={context.key.name if context.key else 'none'}")
    if context.usage:
        parts.append(f"in={context.usage[0]} out={context.usage[1]}")
    parts.append(f"wait={context.queue_s:.3f}s")
    if context.first_byte_s is not None:
        parts.append(f"first={context.first_byte_s:.3f}s")
    access.info("%s total=%.3fs id=%s", " ".join(parts), context.total_s, context.id)
