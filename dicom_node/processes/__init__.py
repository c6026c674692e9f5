"""The processes of the node.

`parts` lists them in their start order, each with what it runs; `node` starts, restarts and stops
them, `receivers` does the same for several receivers on one port. Each child process is supervised
by `supervision` and reports on itself by `observation`.
"""
