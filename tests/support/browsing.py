"""Single sign-on of real programs: an issuer beside them, and a browser that they can start."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import oidc_provider
from tests.support.processes import private_environment

# Follows redirects with its cookies; of a page it sends the last form, as a person does who says
# yes.
BROWSER = r"""
import html, http.cookiejar, os, re, ssl, sys, urllib.parse, urllib.request
trust = ssl.create_default_context(cafile=os.environ["TEST_CA"])
jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trust), jar)
url, data, pages = sys.argv[1], None, []
for _ in range(8):
    answer = opener.open(urllib.request.Request(url, data), timeout=20)
    page, where = answer.read().decode(), answer.geturl()
    pages.append(re.sub("<[^>]*>", " ", page))
    onward = re.search(r'http-equiv="refresh" content="0; ?url=([^"]+)"', page)
    form = re.search(r"<form.*?</form>", page, re.S)
    if onward:
        url, data = urllib.parse.urljoin(where, html.unescape(onward[1])), None
    elif form:
        fields = re.findall(r'<input[^>]*name="([^"]*)"[^>]*value="([^"]*)"', form[0])
        buttons = re.findall(r'<button[^>]*name="([^"]*)"[^>]*value="([^"]*)"', form[0])[:1]
        pairs = [(name, html.unescape(value)) for name, value in fields + buttons]
        action = html.unescape(re.search(r'action="([^"]*)"', form[0])[1])
        url, data = urllib.parse.urljoin(where, action), urllib.parse.urlencode(pairs).encode()
    else:
        break
open(os.environ["TEST_PAGES"], "w").write("\n".join(pages))
"""


@contextmanager
def serving(provider: oidc_provider.Provider) -> Iterator[None]:
    """The issuer, in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(provider.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def desk(home: Path, authority: str) -> dict[str, str]:
    """The environment of somebody who has a browser, which trusts central's authority (PEM).

    The browser writes what its pages say to `TEST_PAGES`.
    """
    (home / "browser.py").write_text(BROWSER)
    (home / "ca.pem").write_text(authority)
    return private_environment(home) | {
        **dict.fromkeys(("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"), ""),
        "BROWSER": f"{sys.executable} {home / 'browser.py'} %s",
        "TEST_CA": str(home / "ca.pem"),
        "TEST_PAGES": str(home / "pages"),
    }
