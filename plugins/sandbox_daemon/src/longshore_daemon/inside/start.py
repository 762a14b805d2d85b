"""The script that the interpreter is started with."""

from longshore_daemon.inside.daemon import main

main()
