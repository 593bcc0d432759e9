"""measure.py FILE COMMAND…: runs a command and writes {"wall","cpu","rss","code"} into FILE: seconds,
seconds, bytes (the peak), exit code."""

import json
import os
import subprocess
import sys
import time

began = time.monotonic()
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
wall = time.monotonic() - began
child.returncode = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump(
        {
            "wall": wall,
            "cpu": usage.ru_utime + usage.ru_stime,
            "rss": usage.ru_maxrss * 1024,
            "code": child.returncode,
        },
        file,
    )
