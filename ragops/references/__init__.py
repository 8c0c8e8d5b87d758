"""Reference endpoints over HTTP: those that embed texts, and debug endpoints that compare."""
