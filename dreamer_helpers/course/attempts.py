"""Where the source of an attempt is found, with what it uses from its notebook."""
