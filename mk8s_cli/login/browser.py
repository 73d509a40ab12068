"""The browser of this machine: whether there is one, and how a page is shown in it.

Called by the login.
"""

import os
import sys
import threading

from mk8s_cli.terminal.screen import note

_REMOTE = ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")
_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def is_here() -> bool:
    """Whether a page can be shown to whoever sits at this terminal, and can come back to us.

    Over SSH the browser that would open is on the other machine, or its 127.0.0.1 is another one.
    """
    if any(os.environ.get(name) for name in _REMOTE):
        return False
    if os.environ.get("BROWSER"):
        return True
    if sys.platform in {"darwin", "win32"}:
        return True
    return any(os.environ.get(name) for name in _DISPLAYS)


def show(url: str) -> None:
    """Open a page, and print its address for those who see none; returns at once."""
    if not is_here():
        note("open this page in a browser of this machine (Ctrl-C stops):")
        print(url, file=sys.stderr, flush=True)
        return
    note("this page opens in your browser; open it yourself if it does not (Ctrl-C stops):")
    print(url, file=sys.stderr, flush=True)
    # A browser for terminals comes back only when it is left.
    threading.Thread(target=_open, args=(url,), daemon=True).start()


def _open(url: str) -> None:
    import webbrowser

    try:
        is_open = webbrowser.open(url)
    except (webbrowser.Error, OSError):
        is_open = False
    if not is_open:
        note("no browser could be opened: open the page yourself, or log in with --device")
