"""The formats of other tools that a lock can be exported in; nothing here is solved."""
