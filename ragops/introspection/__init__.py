"""Find out what a playbook for a database has to say, and write it."""
