"""The operator's HTTP endpoints: its metrics, whether it is alive, whether it is ready. Knows nothing of the cluster."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class Health:
    """State of the operator's start. It is alive while it waits for something outside, and ready when it works."""

    def __init__(self, working: Callable[[], bool]) -> None:
        self._working = working
        self.begun = False
        """Whether its work has begun, which can fail from then on."""
        self.standing_by = False
        """Whether another operator leads, and this one is ready to follow it."""

    @property
    def alive(self) -> bool:
        return self._working() or not self.begun

    @property
    def ready(self) -> bool:
        return self._working() if self.begun else self.standing_by


async def serve(host: str, port: int, registry: CollectorRegistry, health: Health) -> web.AppRunner:
    """Serve on this port until `cleanup` of the runner; on none where it is 0. An empty host means every address, of IPv4 and IPv6."""

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def show_health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if health.alive else web.Response(text="no worker is alive\n", status=503)

    async def show_readiness(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if health.ready else web.Response(text="not yet\n", status=503)

    app = web.Application()
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", show_health)
    app.router.add_get("/readyz", show_readiness)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    if port:
        await web.TCPSite(runner, host or None, port).start()
    return runner
