"""`puna <verb>`: one file a command, imported only when it is called."""
