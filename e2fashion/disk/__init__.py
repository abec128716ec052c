"""State on disk: outputs that appear whole, locks that die with their process, checksums, and names of files.

Every file and folder that a verb writes goes through :mod:`~e2fashion.disk.atomic`; what is written over a longer
time is locked (:mod:`~e2fashion.disk.locks`); what is opened again is compared with the list of its files
(:mod:`~e2fashion.disk.listing`). Nothing here imports PyTorch except :mod:`~e2fashion.disk.tensors`.
"""

from e2fashion.disk.atomic import (
    atomic_file,
    atomic_folder,
    clear_leftovers,
    open_text,
    recover,
    remove_folder,
    write_json,
    write_text,
)
from e2fashion.disk.json_files import check_value, read_json, seal, stored_as
from e2fashion.disk.listing import (
    CHECKSUMS_FILE,
    check_checksums,
    check_files,
    check_replaceable,
    list_files,
    write_checksums,
)
from e2fashion.disk.locks import FolderLockedError, lock_holder, locked, turn_at
from e2fashion.disk.names import checked_name, file_name
from e2fashion.disk.trouble import DamagedError, disk_trouble, naming, reading, reason_of

__all__ = [
    "CHECKSUMS_FILE",
    "DamagedError",
    "FolderLockedError",
    "atomic_file",
    "atomic_folder",
    "check_checksums",
    "check_files",
    "check_replaceable",
    "check_value",
    "checked_name",
    "clear_leftovers",
    "disk_trouble",
    "file_name",
    "list_files",
    "lock_holder",
    "locked",
    "naming",
    "open_text",
    "read_json",
    "reading",
    "reason_of",
    "recover",
    "remove_folder",
    "seal",
    "stored_as",
    "turn_at",
    "write_checksums",
    "write_json",
    "write_text",
]
