"""python launch.py COMMAND...: become the command, with default signal handling and its own terminal.

Background jobs of a script and nohup pass on ignored signals, and so would the tests. None of this can be
done between fork and exec: other tests may have left threads behind, which do not survive a fork.
"""

import os
import signal
import sys

for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)

if os.isatty(1):
    import fcntl
    import termios

    fcntl.ioctl(1, termios.TIOCSCTTY, 0)  # otherwise a Ctrl-C typed there reaches no process

os.execv(sys.argv[1], sys.argv[1:])
