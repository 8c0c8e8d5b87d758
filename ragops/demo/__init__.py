"""The incident, staged on the embedded server."""
