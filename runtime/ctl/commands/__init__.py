"""One module per subcommand.

Each has HELP (a line), `add_arguments(parser)` and `execute(options)`, which returns the exit
status and raises what `runtime.ctl.exits.status_of` knows.
"""
