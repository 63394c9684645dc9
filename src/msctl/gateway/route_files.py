"""The files of routes with `static`, served as by a hosted service."""

from __future__ import annotations

import logging

from msctl.gateway.message.problems import ProblemError
from msctl.gateway.request.gateway_exchange import GatewayExchange
from msctl.gateway.upstream.errors import AttemptError
from msctl.gateway.upstream.hosted import HostedUpstream
from msctl.http.static_files import StaticFiles
from msctl.model.route_policies import StaticSpec

_NAME = "static"


class RouteFiles:
    """Serves the files of all routes."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._folders: dict[StaticSpec, HostedUpstream] = {}

    async def send(self, spec: StaticSpec, exchange: GatewayExchange) -> None:
        """Answer a request; raises ProblemError, BrokenResponseError or ClientGoneError."""
        folder = self._folders.get(spec)
        if folder is None:
            folder = HostedUpstream(_NAME, _NAME, StaticFiles(spec).serve, log=self._log)
            self._folders[spec] = folder
        try:
            await folder.send(exchange)
        except AttemptError as error:
            raise ProblemError(error.problem) from error
