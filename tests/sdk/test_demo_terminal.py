"""`weir demo` as a person sees it who runs it for the first time: on a terminal, with keys."""
import fcntl
import json
import os
import pty
import re
import select
import struct
import termios
import time
import urllib.error
import urllib.request

import pyte
import pytest

from hub import WEIR

pytestmark = pytest.mark.timeout(180)
# The smallest terminal that people have, and room to scroll, so that nothing that was said is lost.
COLUMNS, LINES = 80, 24
LIVE = re.compile(r"^v(\d)  in (\d+)/s  dropped (\d+)/s  out (\d+)/s  stored (\d+)  p99 \d+ms  upstream (\w+)$")


class Terminal:
    """The demo in a pseudo-terminal, and what stands on its screen."""

    def __init__(self):
        self.screen = pyte.HistoryScreen(COLUMNS, LINES, history=1000, ratio=1.0)
        self.stream = pyte.ByteStream(self.screen)
        self.pid, self.side = pty.fork()
        if self.pid == 0:
            os.execve(WEIR, [WEIR, "demo", "--port", "0"], dict(os.environ, TERM="xterm-256color"))
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.status = None

    def press(self, key):
        os.write(self.side, key.encode())

    def lines(self):
        """Everything that was ever on the screen, top to bottom."""
        above = ["".join(line[column].data for column in range(COLUMNS)) for line in self.screen.history.top]
        return [line.rstrip() for line in above + list(self.screen.display)]

    def text(self):
        """The same as one text; lines that the terminal has wrapped are whole again."""
        return "".join(line.ljust(COLUMNS) for line in self.lines())

    def live(self):
        """The live line, taken apart: version, in, dropped, out, stored, upstream."""
        rows = [line for line in self.lines() if line]
        found = LIVE.match(rows[-1]) if rows else None
        return found and (*map(int, found.groups()[:5]), found.group(6))

    def read(self, seconds):
        ready, _, _ = select.select([self.side], [], [], seconds)
        if not ready:
            return True
        try:
            chunk = os.read(self.side, 65536)
        except OSError:  # the demo has ended
            return False
        self.stream.feed(chunk)
        return bool(chunk)

    def wait(self, condition, what, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            if not self.read(0.1):
                break
        raise AssertionError("%s did not come; the screen:\n%s" % (what, "\n".join(self.lines())))

    def said(self, text, seconds=30):
        """Waits until a text stands in a line, or in lines that belong together."""
        return self.wait(lambda: text in self.text(), repr(text), seconds)

    def shows(self, condition, what):
        """Waits until the live line is as wished."""
        return self.wait(lambda: (lambda live: live and condition(*live) and live)(self.live()), what)

    def end(self):
        """Waits for the end; gives the exit code."""
        while self.read(30):
            pass
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.side)


@pytest.fixture
def demo():
    terminal = Terminal()
    yield terminal
    terminal.close()


def api(demo):
    """The address and the token that the screen tells."""
    text = demo.text()
    address = re.search(r"http://127\.0\.0\.1:\d+", text).group()
    with open(re.search(r"\$\(cat (\S+)\)", text).group(1)) as f:
        return address, f.read().strip()


def test_the_first_screen_says_where_everything_is_and_what_one_can_do(demo):
    demo.said("[q] quit")
    demo.shows(lambda version, into, *_: version == 1 and into > 100, "readings flow through version 1")
    screen = "\n".join(demo.lines())
    for key in ("[s]", "[1]", "[b]", "[u]", "[e]", "[q]"):
        assert key in screen, key
    address, token = api(demo)
    with urllib.request.urlopen(address + "/docs/", timeout=20) as page:
        assert page.status == 200
    request = urllib.request.Request(address + "/api/v1/modules/filter", headers={"Authorization": "Bearer " + token})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert json.load(answer)["name"] == "filter"
    # The live line is written over and over, and stays one line.
    _, before, *_ = demo.live()
    demo.shows(lambda version, into, *_: into != before, "another live line")
    assert sum(line.startswith("v1  in ") for line in demo.lines()) == 1
    assert len(demo.screen.history.top) == 0


def test_keys_swap_break_cut_restore_explain_and_quit(demo):
    demo.shows(lambda version, i, d, out, *_: version == 1 and out > 0, "readings flow")
    demo.press("s")
    demo.said("filter v2 took over in")
    demo.shows(lambda version, i, d, out, *_: version == 2 and out > d, "version 2 keeps more than it drops")

    demo.press("s")
    demo.said("filter v2 is running already")

    demo.press("b")
    demo.said("filter v3 took over in")
    demo.said("filter v3 failed (version 3 has a fault): v2 is back by itself")
    demo.shows(lambda version, *_: version == 2, "version 2 is in force again")

    demo.press("u")
    demo.said("the upstream is cut: messages wait on disk")
    demo.shows(lambda v, i, d, o, stored, upstream: upstream == "paused" and stored > 500, "messages wait")

    demo.press("u")
    demo.said("the upstream is back: the backlog drains")
    demo.shows(lambda v, i, d, o, stored, upstream: upstream == "up" and stored < 200, "the backlog has drained")

    demo.press("e")
    # The last message is a sensor's or the filter's; each has one route that takes it and one that does not.
    taken = demo.wait(lambda: re.search(r"taken by to-(filter|upstream)", demo.text()), "an explanation").group(1)
    for route in ("filter", "upstream"):
        demo.said("route to-%s: %s" % (route, "matched" if route == taken else "not matched"))

    demo.press("1")
    demo.said("filter v1 took over in")
    demo.shows(lambda version, *_: version == 1, "version 1 is in force")

    demo.press("x")
    demo.wait(lambda: sum("[s]" in line for line in demo.lines()) == 2, "another key shows the keys again")

    demo.press("q")
    assert demo.end() == 0
    said = [line for line in demo.lines() if line]
    assert re.match(r"\d+ readings sent, \d+ acknowledged", said[-1]), said[-1]
    sent, acknowledged = map(int, re.findall(r"\d+", said[-1])[:2])
    assert sent == acknowledged > 1000


def test_control_c_ends_it_in_good_order_and_gives_the_terminal_back(demo):
    def echoes():
        return bool(termios.tcgetattr(demo.side)[3] & termios.ECHO)

    demo.shows(lambda *_: True, "the live line")
    assert not echoes()
    demo.press("\x03")
    assert demo.end() == 0
    assert echoes()
