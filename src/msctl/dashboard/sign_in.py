"""Signs a browser in: a link with the start-up token sets a cookie; a page says where the link is."""

from __future__ import annotations

from aiohttp import web

from msctl.secret import Secret

TOKEN_PARAMETER = "token"  # noqa: S105 - the parameter's name
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>msctl: sign in</title>
</head>
<body>
<main>
<h1>This page opens with a link</h1>
<p>The dashboard is private to the user who started the stack. To open it, use the link that
<code>msctl up</code> printed, or run this in the project's folder:</p>
<pre><code>msctl open</code></pre>
<p>The link is needed once in each browser. <code>token = false</code> in the table <code>[dashboard]</code>
of <code>msctl.toml</code> switches it off; every user of this machine can then open the page.</p>
</main>
</body>
</html>
"""


def cookie_name(port: int) -> str:
    """The name includes the port, because browsers share cookies between the ports of a host."""
    return f"msctl-{port}"


def set_session(response: web.StreamResponse, port: int, session: Secret) -> None:
    """Set the cookie: unreadable for scripts, and not sent with requests of other sites."""
    response.set_cookie(cookie_name(port), session.reveal(), httponly=True, samesite="Strict", path="/")


def signed_in(port: int, session: Secret) -> web.Response:
    """Set the cookie and redirect, so that the token does not stay in the address bar."""
    response = web.Response(status=303, headers={"Location": "/"})
    set_session(response, port, session)
    return response


def sign_in_page(*, retry: bool) -> web.Response:
    """The page without a cookie. With `retry`, it loads itself again: after a link of another site, the
    browser sends the cookie only when our own page navigates."""
    headers = {"Refresh": "0"} if retry else {}
    return web.Response(status=401, text=_PAGE, content_type="text/html", headers=headers)
