"""Push a model folder to a repository of the Hugging Face hub; the only code of the package that sends anything."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from e2fashion.encoder import Encoder
from e2fashion.types import E2FashionError


def push(encoder: Encoder, repository: str, private: bool = True) -> dict[str, Any]:
    """Upload model, processor and card as one commit; the repository is made if it does not exist.

    Args:
        encoder: the encoder, as :meth:`~e2fashion.encoder.Encoder.save_pretrained` writes it.
        repository: ``<user or organization>/<name>``.
        private: whether a new repository is private.

    Returns:
        The repository, the address of the commit, and the uploaded files.

    Raises:
        E2FashionError: the name is not of that form, or the hub refuses: no token, no permission, no connection.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if repository.count("/") != 1 or repository.startswith((".", "/", "~")) or Path(repository).exists():
        raise E2FashionError(
            f"output is '{repository}'; with format=hub it is a repository, as in output=<user>/<name>"
        )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        encoder.save_pretrained(folder)
        files = sorted(file.name for file in folder.iterdir())
        api = HfApi()
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Add {encoder.name}")
        except (LocalTokenNotFoundError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
            raise E2FashionError(
                f"the hub did not take '{repository}': {str(error).strip().splitlines()[0]} Log in by `hf auth login`, "
                "or set HF_TOKEN"
            ) from error
    return {"repository": repository, "commit": str(commit.commit_url), "files": files}
