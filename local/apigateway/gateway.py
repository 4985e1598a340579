"""The local API Gateway: a REST API's routes in front of Lambda functions, as an ASGI application.

Differences from AWS: only the form of IAM signatures is checked, stage throttling and request validators are not
applied, and header names reach the function in lower case, as from an HTTP/2 client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import uvicorn

from local.apigateway.authorization import AuthorizerCache, GatewayError, Invoke, signing_key
from local.apigateway.proxy import (
    HttpRequest,
    MalformedResponse,
    authorizer_event,
    proxy_event,
    proxy_response,
    request_context,
)
from local.apigateway.rest_api import (
    Authorizer,
    GatewayResponse,
    HttpResponse,
    MockIntegration,
    RestApi,
    Route,
    RouteTable,
    gateway_response,
    mock_response,
)
from local.errors import LocalError

__all__ = ["Authorizer", "Gateway", "GatewayResponse", "MockIntegration", "RestApi", "Route"]

PAYLOAD_LIMIT = 10 * 1024 * 1024  # bytes (Amazon API Gateway quotas)
_KEEP_ALIVE_S = 350  # longer than clients keep idle connections, so that none is closed during a request
_THREADS = 128  # each request blocks one while its function runs
_TOO_LARGE_FOR_LAMBDA = "RequestEntityTooLargeException"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Exchange:
    """One request in progress, with its route (if any) and its requestContext."""

    request: HttpRequest
    route: Route | None
    parameters: dict[str, str]
    context: dict[str, Any]


class Gateway:
    """Serves `api` by calling `invoke(function, payload)`, which blocks, in a thread pool.

    On any failure the client gets one of the API's declared responses: 502 for a failing function, 504 for one that
    exceeds the integration limit, as DEFAULT_5XX or their own response type; the cause is logged.
    """

    def __init__(self, api: RestApi, invoke: Invoke) -> None:
        self._api = api
        self._invoke = invoke
        self._routes = RouteTable(api.routes)
        self._authorizers = {
            name: AuthorizerCache(authorizer, invoke) for name, authorizer in api.authorizers.items()
        }
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="gateway")

    def close(self) -> None:
        """Shut the thread pool down; requests in progress complete. ASGI's lifespan shutdown calls it too."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @property
    def app(self) -> Gateway:
        """The ASGI application.

        Serve it without uvicorn's `proxy_headers`, so that sourceIp is the peer, and on a socket opened with
        IPPROTO_TCP: on other sockets asyncio leaves Nagle's algorithm on, which delays each response by 40 ms.
        """
        return self

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            event = (await receive())["type"]
            if event == "lifespan.shutdown":
                self.close()
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return  # the client disconnected
        exchange = self._exchange(_request(scope, body[:PAYLOAD_LIMIT]))
        if len(body) > PAYLOAD_LIMIT:
            response = gateway_response(self._api, "REQUEST_TOO_LARGE", exchange.context)
        else:
            response = await self._with_timeout(exchange)
        await _respond(send, response, exchange.context)

    def _exchange(self, request: HttpRequest) -> _Exchange:
        route, parameters = self._routes.find(request.method, request.path) or (None, {})
        return _Exchange(request, route, parameters, request_context(self._api, request, route))

    async def _with_timeout(self, exchange: _Exchange) -> HttpResponse:
        working = asyncio.get_running_loop().run_in_executor(self._threads, self._respond_to, exchange)
        done, _ = await asyncio.wait({working}, timeout=self._api.timeout_s)
        if done:
            return working.result()
        return gateway_response(self._api, "INTEGRATION_TIMEOUT", exchange.context)

    def _respond_to(self, exchange: _Exchange) -> HttpResponse:
        try:
            return self._route(exchange)
        except GatewayError as error:
            if error.kind not in ("UNAUTHORIZED", "ACCESS_DENIED", "MISSING_AUTHENTICATION_TOKEN"):
                log.warning("%s %s: %s", exchange.request.method, exchange.request.path, error)
            return gateway_response(self._api, error.kind, exchange.context)
        except Exception:  # the client must get a response, and never a stack trace
            log.exception("%s %s failed in the gateway", exchange.request.method, exchange.request.path)
            return gateway_response(self._api, "DEFAULT_5XX", exchange.context)

    def _route(self, exchange: _Exchange) -> HttpResponse:
        route = exchange.route
        if route is None:
            raise GatewayError("MISSING_AUTHENTICATION_TOKEN")
        if route.auth == "AWS_IAM":
            exchange.context["identity"] |= self._signer(exchange.request)
        elif route.auth == "CUSTOM":
            exchange.context["authorizer"] = self._authorize(exchange, route)
        if route.mock is not None:
            return self._answer(exchange, route.mock)
        return self._integrate(exchange, route)

    def _answer(self, exchange: _Exchange, mock: MockIntegration) -> HttpResponse:
        answer = mock_response(mock, exchange.request.header("content-type"), exchange.context)
        if answer is None:
            raise GatewayError("UNSUPPORTED_MEDIA_TYPE", "a content type without a template")
        return answer

    def _signer(self, request: HttpRequest) -> dict[str, str]:
        key, account = signing_key(request), self._api.account
        return {
            "accessKey": key,
            "accountId": account,
            "caller": key,
            "userArn": f"arn:aws:iam::{account}:root",
        }

    def _authorize(self, exchange: _Exchange, route: Route) -> dict[str, str]:
        assert route.authorizer is not None
        api, request = self._api, exchange.request
        stage = f"arn:aws:execute-api:{api.region}:{api.account}:{api.api_id}/{api.stage}"
        arn = f"{stage}/{request.method}/{request.path.lstrip('/')}"

        def event() -> dict[str, Any]:
            return authorizer_event(request, route, exchange.parameters, exchange.context, arn)

        grant = self._authorizers[route.authorizer].grant(request, exchange.context, event)
        if not grant.allows(arn):
            raise GatewayError("ACCESS_DENIED")
        return dict(grant.context)

    def _integrate(self, exchange: _Exchange, route: Route) -> HttpResponse:
        event = proxy_event(exchange.request, route, exchange.parameters, exchange.context)
        result = self._invoke(route.function, json.dumps(event).encode())
        if result.error == _TOO_LARGE_FOR_LAMBDA:
            raise GatewayError("REQUEST_TOO_LARGE", "larger than a function's request may be")
        if result.error is not None:
            return self._bad_gateway(exchange, route, f"{result.error} {result.payload[:500]!r}")
        try:
            return proxy_response(result.payload)
        except MalformedResponse as malformed:
            return self._bad_gateway(exchange, route, f"malformed proxy response: {malformed}")

    def _bad_gateway(self, exchange: _Exchange, route: Route, cause: str) -> HttpResponse:
        log.warning("%s failed (request %s): %s", route.function, exchange.context["requestId"], cause)
        return gateway_response(self._api, "DEFAULT_5XX", exchange.context, status=502)


async def _read(receive: Receive) -> bytes | None:
    """The body, truncated just above the limit; None when the client disconnected before its end."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if len(body) <= PAYLOAD_LIMIT:  # the rest is read and dropped, so that the client reads the response
            body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _request(scope: Message, body: bytes) -> HttpRequest:
    client, server = scope.get("client"), scope.get("server")
    return HttpRequest(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
        body=body,
        source_ip=client[0] if client else "127.0.0.1",
        port=server[1] if server and server[1] else 80,
    )


async def _respond(send: Send, response: HttpResponse, context: MutableMapping[str, Any]) -> None:
    headers = [
        *response.headers,
        ("x-amzn-requestid", context["requestId"]),
        ("x-amz-apigw-id", context["extendedRequestId"]),
    ]
    if response.status not in (204, 304):
        headers.append(("content-length", str(len(response.body))))
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": response.status, "headers": raw})
    await send({"type": "http.response.body", "body": response.body})


@contextlib.contextmanager
def serving(gateway: Gateway, listener: socket.socket) -> Iterator[None]:
    """Run the gateway under uvicorn in a thread, where it installs no signal handlers; close it at the end."""
    config = uvicorn.Config(
        gateway.app,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        http="h11",
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="gateway", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.002)
    if not server.started:
        raise LocalError("the gateway did not start")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        gateway.close()
