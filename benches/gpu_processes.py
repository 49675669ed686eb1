"""Child processes with a limit of time; all of them end when the run is stopped or its part has had its time."""

import os
import queue
import signal
import subprocess
import threading
import time


class Late(Exception):
    """A child that was not done in its time, and was ended."""


class Stopped(BaseException):
    """The user, or a scheduler, asked to stop. What was finished is stored."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


def listen():
    """Turns INT, TERM and HUP into Stopped, once."""

    def stop(number, _):
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)


class Child:
    """A process in a group of its own, whose output comes line by line."""

    def __init__(self, command, environment=None, folder=None, talks=False):
        self.process = subprocess.Popen([str(word) for word in command], env=environment, cwd=folder, text=True, errors="replace",
                                        stdin=subprocess.PIPE if talks else subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, start_new_session=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self, until):
        """The next line; None at the end of the output. Late where there is none by then."""
        try:
            return self.lines.get(timeout=max(until - time.monotonic(), 0))
        except queue.Empty:
            raise Late from None

    def end(self):
        """Ends the process and what it started, if need be by force."""
        for number, patience in ((signal.SIGTERM, 3), (signal.SIGKILL, 10)):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        # Children of a child that ended by itself.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Processes:
    """The children of a run, and until when its present part may go on."""

    def __init__(self):
        self.live, self.until = set(), float("inf")

    def may_take(self, seconds):
        self.until = time.monotonic() + seconds

    def limit(self, seconds):
        """The moment at which a child that may take so long has to be done."""
        until = min(time.monotonic() + seconds, self.until)
        if until < time.monotonic() + 1:
            raise Late("no time left in this part")
        return until

    def start(self, command, **more):
        child = Child(command, **more)
        self.live.add(child)
        return child

    def end(self, child):
        if child in self.live:
            child.end()
            self.live.discard(child)

    def end_all(self):
        for child in list(self.live):
            self.end(child)

    def run(self, command, seconds, hear=None, **more):
        """(exit code, lines of output) of a child that ended by itself; `hear` is told each line as it comes."""
        began, until = time.monotonic(), self.limit(seconds)
        child, lines = self.start(command, **more), []
        try:
            while (line := child.line(until)) is not None:
                lines.append(line)
                if hear:
                    hear(line)
            return child.process.wait(max(until - time.monotonic(), 1)), lines
        except (Late, subprocess.TimeoutExpired):
            raise Late(f"ended after {time.monotonic() - began:.0f} s" + (f", last said: {lines[-1][:100]}" if lines else "")) from None
        finally:
            self.end(child)
