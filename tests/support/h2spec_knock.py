"""What h2specd starts as its client: says the address to the test's process, waits for the end.

python -S -I h2spec_knock.py PORT_OF_THE_TEST http://127.0.0.1:PORT/
"""

import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as test:
    test.sendall(sys.argv[2].encode() + b"\n")
    test.recv(1)
