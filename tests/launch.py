"""python launch.py COMMAND...: become the command, with default signal handling and its own terminal.

Background jobs of a script and processes under nohup ignore some signals, and their child processes inherit
this. So the launcher restores the signals. The tests cannot do it between fork and exec, because other tests
may have left threads, which do not survive a fork.
"""

import os
import signal
import sys

for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)

if os.isatty(1):
    import fcntl
    import termios

    fcntl.ioctl(1, termios.TIOCSCTTY, 0)  # otherwise a Ctrl-C typed on the terminal reaches no process

os.execv(sys.argv[1], sys.argv[1:])
