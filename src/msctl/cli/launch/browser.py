"""Opens the dashboard's link in the user's browser, without showing the token to other users.

All users of a machine can see the arguments of a process. So the browser gets the path of a private file
that redirects to the link, as in Jupyter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from html import escape

from msctl.control.paths import StackPaths
from msctl.files import write_atomically

_PAGE = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={link}">'


def open_browser(link: str, paths: StackPaths) -> bool:
    """Open the link if this session has a display and a browser; returns whether it did."""
    if not has_display(os.environ):
        return False
    import webbrowser  # slow to import, and not needed to print the link

    file = paths.folder / "open.html"
    with paths.opened() as folder:
        write_atomically(file, _PAGE.format(link=escape(link, quote=True)).encode(), folder=folder)
    return webbrowser.open(file.as_uri())


def has_display(env: Mapping[str, str]) -> bool:
    """Whether a browser with a window can be opened; one in the terminal would cover the output."""
    if sys.platform == "darwin":
        return "SSH_CONNECTION" not in env
    return bool(env.get("DISPLAY") or env.get("WAYLAND_DISPLAY"))
