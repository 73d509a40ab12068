"""A thread that writes for the event loop, so that a disk that stalls stops nobody else.

The loop hands a batch over and waits for it, as it would for its own write; but not longer than its
patience. A batch that takes longer is waited for without blocking. So the usual case is as simple
as a write, and costs two changes of thread: 8 to 10 microseconds of processor time. The two
wake each other by pipes: whoever writes to one lets go of the interpreter meanwhile, so that the
other, once awake, need not wait for that, too. With locks it is twice as much.
"""

# interpreted: a door to a thread, it waits more than it works

import os
import select
import threading
from collections.abc import Callable


class BatchWriter:
    """Does one thing at a time, in a thread of its own.

    Args:
        write: what to do with a batch; may block, raises OSError.
        patience: seconds that `write` may block the caller.
    """

    def __init__(self, write: Callable[[bytes], None], patience: float) -> None:
        self.busy = False
        """Whether a batch is being written that was not waited for."""
        self.on_late: Callable[[], object] = lambda: None
        """Called in the thread when such a batch is through."""
        self._write = write
        self._patience = patience
        self._batch: bytes | None = None
        self._failure: OSError | None = None
        self._to_do, self._go = os.pipe()
        self._done, self._is_done = os.pipe()
        self._ends = select.poll()
        self._ends.register(self._done, select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="journal writer", daemon=True)
        self._thread.start()

    def write(self, batch: bytes) -> None:
        """Write a batch; afterwards it is written or, where `busy` says so, on its way.

        Raises:
            OSError: it is not written.
        """
        assert not self.busy
        self._batch = batch
        os.write(self._go, b".")
        if self._ends.poll(self._patience * 1000):
            os.read(self._done, 1)
        else:
            # First this and then a look: the thread looks here after it has said that it is done.
            self.busy = True
            if not self.poll():
                return
        if self._failure is not None:
            self.result()

    def poll(self) -> bool:
        """Whether a batch that was not waited for is through; `result` then says how."""
        return self._ends_within(0)

    def result(self) -> None:
        """How the last batch ended.

        Raises:
            OSError: it was not written.
        """
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def close(self, seconds: float) -> bool:
        """End the thread; whether it ended within so many seconds."""
        if self.busy and not self._ends_within(seconds):
            return False
        self._batch = None
        os.write(self._go, b".")
        self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        for end in (self._to_do, self._go, self._done, self._is_done):
            os.close(end)
        return True

    def _ends_within(self, seconds: float) -> bool:
        """Whether the batch that is being written is through before so many seconds are."""
        if not self._ends.poll(seconds * 1000):
            return False
        os.read(self._done, 1)
        self.busy = False
        return True

    def _run(self) -> None:
        while True:
            os.read(self._to_do, 1)
            batch = self._batch
            if batch is None:
                return
            try:
                self._write(batch)
            except OSError as error:
                self._failure = error
            except Exception as error:  # noqa: BLE001  whatever it is: the rows are not written
                self._failure = OSError(f"{type(error).__name__}: {error}")
            os.write(self._is_done, b".")
            if self.busy:
                self.on_late()
