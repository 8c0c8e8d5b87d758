"""The playbook: what a campaign does, validated whole before anything runs."""

from ragops.playbook.loading import find_playbook, load_playbook, parse_playbook
from ragops.playbook.model import Playbook
from ragops.playbook.names import TableName

__all__ = ["Playbook", "TableName", "find_playbook", "load_playbook", "parse_playbook"]
