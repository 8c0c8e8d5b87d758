"""The backend over HTTP: endpoints that embed, and debug endpoints that compare."""
