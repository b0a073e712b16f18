"""python launch.py COMMAND...: become the command, with every signal as usual, and the terminal as one's own.

A background job of a script, and nohup, pass on that they ignore some signals; so would the tests. None of it
can be done between fork and exec: other tests may have left threads behind, which do not survive a fork.
"""

import os
import signal
import sys

for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)

if os.isatty(1):
    import fcntl
    import termios

    fcntl.ioctl(1, termios.TIOCSCTTY, 0)  # or a Ctrl-C typed there is for nobody

os.execv(sys.argv[1], sys.argv[1:])
