"""State on disk: atomic outputs, locks that end with their process, checksums, and file names.

All files and folders are written through :mod:`~e2fashion.disk.atomic`; folders that are written over a longer time are
locked (:mod:`~e2fashion.disk.locks`), and checked against their file list when they are opened
(:mod:`~e2fashion.disk.listing`). Addresses at object stores have files and turns of their own
(:mod:`~e2fashion.disk.stores`, :mod:`~e2fashion.disk.turns`). Only :mod:`~e2fashion.disk.tensors` imports PyTorch, only
the former two import Arrow.
"""

from e2fashion.disk.atomic import (
    atomic_file,
    atomic_folder,
    clear_leftovers,
    json_text,
    open_text,
    recover,
    remove_folder,
    write_json,
    write_text,
)
from e2fashion.disk.json_files import (
    check_value,
    read_json,
    read_line,
    read_lines,
    read_object,
    seal,
    sealed_line,
    stored_as,
    write_lines,
)
from e2fashion.disk.listing import (
    CHECKSUMS_FILE,
    Listing,
    check_checksums,
    check_files,
    check_replaceable,
    check_tree,
    file_names,
    list_files,
    read_checksums,
    update_checksums,
    write_checksums,
)
from e2fashion.disk.locks import FolderLockedError, lock_holder, locked, turn_at
from e2fashion.disk.trouble import (
    DamagedError,
    check_regular,
    checked_name,
    disk_trouble,
    file_name,
    naming,
    reading,
    real_path,
    reason_of,
    what_lacks,
)
