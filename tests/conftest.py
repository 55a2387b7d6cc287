"""What every test may rely on."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun in the background of a script, where shells ignore it; commands under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
