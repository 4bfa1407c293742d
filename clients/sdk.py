"""A client of Mini-RAG and of Tollgate's billing (MR-16). Python 3.9 or newer, standard library only.

    client = Client("http://localhost:3000", api_key="tg_...")
    client.ingest_urls(["https://example.com/otters"])
    client.ask("How do otters sleep?")["answer"]

Every request carries the API key. What may be repeated is: reads, and writes that carry an idempotency key of
their own, are sent again after no answer, 502, 503 and 504, and everything is after 429 and 503 with Retry-After.
Ingestion is not repeated after an answer was lost, since the server cannot tell the second request from a new one.
"""

from __future__ import annotations

import http.client
import json
import mimetypes
import os
import random
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any, Iterable, Mapping, Optional, Tuple

REPEATED = frozenset({502, 503, 504})


class ApiError(Exception):
    """The server refused: `status`, `code` and `detail` as it said; 402 is a workspace that may not ingest (MR-13)."""

    def __init__(self, status: int, body: Mapping[str, Any]):
        self.status = status
        self.code = body.get("code") or body.get("error")
        self.detail = body.get("detail") or body.get("message") or ""
        self.body = dict(body)
        super().__init__(f"{status}: {self.detail}")


class Unreachable(Exception):
    """No answer arrived: whether the request was carried out is not known."""


class Client:
    def __init__(self, url: str, api_key: str, *, timeout: float = 10.0, retries: int = 3):
        """`timeout` in seconds per attempt; `retries` after the first attempt. A key that no header could carry is a ValueError."""
        api_key = api_key.strip()
        # http.client would refuse it in words that have the key in them.
        if not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("api_key must be a key of Tollgate: it has a line break or a character that no header has")
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._timeout = timeout
        self._retries = retries

    # Mini-RAG

    def ask(self, question: str) -> Any:
        """An answer from the workspace's own documents (MR-7): `{"answer", "sources"}`."""
        return self._call("POST", "/api/v1/ask", {"question": question}, repeatable=False)

    def ingest_urls(self, urls: Iterable[str]) -> Any:
        """Ingests pages (MR-8): `{"sources": [{"id", "name"}]}`."""
        return self._call("POST", "/api/v1/ingest/urls", {"urls": list(urls)}, repeatable=False)

    def ingest_files(self, paths: Iterable[str]) -> Any:
        """Uploads and ingests documents (MR-9)."""
        body, content_type = _form(paths)
        return self._send("POST", "/api/v1/ingest/files", body, content_type, repeatable=False)

    def sources(self) -> Any:
        """The workspace's sources (MR-10)."""
        return self._call("GET", "/api/v1/sources")

    def add_source(self, name: str, text: str) -> Any:
        return self._call("POST", "/api/v1/sources", {"name": name, "text": text}, repeatable=False)

    # Billing

    def checkout(self, price_id: Optional[str] = None, plan: Optional[str] = None, **urls: str) -> Any:
        """Opens a hosted checkout (MR-1): `{"id", "url"}`. `success_url` and `cancel_url` may be named."""
        body = {"price_id": price_id, "plan": plan, **urls}
        return self._call("POST", "/api/v1/billing/checkout", body, repeatable=False)

    def portal(self) -> Any:
        """Opens the hosted portal (MR-2)."""
        return self._call("POST", "/api/v1/billing/portal", {}, repeatable=False)

    def subscription(self) -> Any:
        return self._call("GET", "/api/v1/billing/subscription")

    def invoices(self, limit: int = 10) -> Any:
        return self._call("GET", f"/api/v1/billing/invoices?limit={int(limit)}")

    def usage(self) -> Any:
        return self._call("GET", "/api/v1/usage")

    def entitlements(self) -> Any:
        """What there is of each feature of the catalog."""
        return self._call("GET", "/api/v1/entitlements")["entitlements"]

    def entitlement(self, feature: str) -> Any:
        """Whether a feature may be used (`allowed`), and what there is of it (`value`). A refusal is an answer."""
        return self._call("GET", "/api/v1/entitlements/" + urllib.parse.quote(feature, safe=""))

    def consume(self, meter: str, quantity: Any = 1, *, idempotency_key: Optional[str] = None) -> Any:
        """Checks and records a use in one step. It counts once, however often it is sent: the key is made before the first attempt."""
        key = idempotency_key or str(uuid.uuid4())
        return self._call("POST", "/api/v1/usage/consume", {"meter": meter, "quantity": quantity, "idempotency_key": key})

    # Transport

    def _call(self, method: str, path: str, body: Optional[Mapping[str, Any]] = None, *, repeatable: bool = True) -> Any:
        data = None if body is None else json.dumps({k: v for k, v in body.items() if v is not None}).encode()
        return self._send(method, path, data, "application/json", repeatable=repeatable)

    def _send(self, method: str, path: str, data: Optional[bytes], content_type: str, *, repeatable: bool) -> Any:
        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            request = urllib.request.Request(self._url + path, data=data, method=method)
            request.add_header("Authorization", f"Bearer {self._api_key}")
            if data is not None:
                request.add_header("Content-Type", content_type)
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                    return _read(answer.read())
            except urllib.error.HTTPError as error:
                body = _read_refusal(error)
                refused = ApiError(error.code, body if isinstance(body, dict) else {"detail": str(body or error.reason)})
                after = error.headers.get("Retry-After")
                # With Retry-After, 429 and 503 say that nothing was done; what else failed may have been.
                untouched = after is not None and error.code in (429, 503)
                if last or not (untouched or (repeatable and error.code in REPEATED)):
                    raise refused from None
                _wait(attempt, after)
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                if last or not repeatable:
                    raise Unreachable(f"{method} {path} had no answer: {error}") from error
                _wait(attempt, None)
        raise AssertionError("unreachable")


def _wait(attempt: int, retry_after: Optional[str]) -> None:
    # Doubling, with chance, so that clients that failed together do not come back together.
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else 0.2 * 2**attempt
    time.sleep(min(seconds, 30.0) * (0.5 + random.random() / 2 if not retry_after else 1.0))


def _read_refusal(error: urllib.error.HTTPError) -> Any:
    try:
        return _read(error.read())
    except (OSError, http.client.HTTPException):
        # Its status arrived, its words did not.
        return None


def _read(data: bytes) -> Any:
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


def _form(paths: Iterable[str]) -> Tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    parts = []
    for path in paths:
        name = urllib.parse.quote(os.path.basename(path))
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
        with open(path, "rb") as file:
            parts.append(head.encode() + file.read() + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
