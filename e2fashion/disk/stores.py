"""Addresses at object stores of S3's protocol: their small files, and errors that name them.

Arrow reads and writes the small files; other libraries are given :attr:`Store.options`, so that all of them use the
same endpoint and region whatever each reads of the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyarrow import fs

from e2fashion.types import E2FashionError

SCHEME = "s3"
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
REGION_OF_OTHERS = "us-east-1"
"""Region of an endpoint that is not Amazon's, where none is given: such stores ignore it, but it is signed."""
TROUBLES = {
    r"NO_SUCH_BUCKET|NoSuchBucket": "the bucket does not exist: create it, or check the address",
    r"AWS credentials|CredentialsNotLoaded": "there are no credentials: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT_MATCH|AccessDenied|InvalidAccessKeyId|"
    r"SignatureDoesNotMatch|Unauthenticated|status: 40[13]": "access is denied: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to those of its owner",
    r"NETWORK_CONNECTION|Connect|error sending request|timed? ?out": "the store does not answer at {endpoint}: check "
    "AWS_ENDPOINT_URL and the network, and repeat the command",
    r"AWS Error (.*)": "the store refuses ({said}): check the address, AWS_ENDPOINT_URL and AWS_REGION",
}
"""What libraries say of a store's trouble, in this order, and how we say it."""


class StoreError(E2FashionError):
    """A store that does not answer, or refuses what is asked of it."""


@dataclass(frozen=True)
class Store:
    """An address ``s3://<bucket>/<key>``, below which files have names."""

    address: str

    def __str__(self) -> str:
        return self.address

    def __post_init__(self) -> None:
        bucket, _, key = self._path.partition("/")
        if not bucket or not key or "?" in key:
            raise E2FashionError(
                f"'{self.address}' is no address of an index: give {SCHEME}://<bucket>/<index>, and endpoint and "
                "region by AWS_ENDPOINT_URL and AWS_REGION"
            )

    @property
    def _path(self) -> str:
        return self.address.removeprefix(f"{SCHEME}://")

    @cached_property
    def options(self) -> dict[str, str]:
        """Endpoint and region, by the names that the object stores of Rust's libraries take."""
        endpoint, region = (_of_environment(names) for names in (ENDPOINTS, REGIONS))
        if not endpoint:
            with self.reaching():
                return {"aws_region": region or fs.resolve_s3_region(self._path.partition("/")[0])}
        plain = {"allow_http": "true"} if endpoint.startswith("http://") else {}
        return {"aws_endpoint": endpoint, "aws_region": region or REGION_OF_OTHERS} | plain

    @cached_property
    def _files(self) -> Any:
        endpoint = self.options.get("aws_endpoint")
        # A small file is then written by one request.
        return fs.S3FileSystem(region=self.options["aws_region"], endpoint_override=endpoint, allow_delayed_open=True)

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Turn errors of libraries that the store causes into one that names it; others pass.

        Raises:
            StoreError: no bucket, no credentials, no answer.
        """
        try:
            yield
        except E2FashionError:
            raise
        except Exception as error:
            endpoint = _of_environment(ENDPOINTS) or "Amazon's endpoint"
            for said, meaning in TROUBLES.items():
                if found := re.search(said, str(error)):
                    words = meaning.format(endpoint=endpoint, said=found[found.re.groups])
                    raise StoreError(f"'{self}': {words}") from error
            raise

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none.

        Arrow asks for the size and then for the content: of a file that another process replaces meanwhile it may be
        neither the former nor the new one.
        """
        path = f"{self._path}/{name}"
        with self.reaching():
            try:
                with self._files.open_input_stream(path) as stream:
                    content: bytes = stream.read()
            except OSError as error:
                gone = isinstance(error, FileNotFoundError)
                if gone or self._files.get_file_info(path).type == fs.FileType.NotFound:  # removed since it had a size
                    return None
                raise
        return content

    def write(self, name: str, text: str) -> None:
        """Write a file in UTF-8, as a whole."""
        with self.reaching(), self._files.open_output_stream(f"{self._path}/{name}") as stream:
            stream.write(text.encode())

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is none."""
        with self.reaching(), suppress(FileNotFoundError):
            self._files.delete_file(f"{self._path}/{name}")

    def entries(self, inside: str = "") -> dict[str, int]:
        """Names of the files and folders at the address, or in a folder there, and when they were written, in ns."""
        with self.reaching():
            chosen = fs.FileSelector(f"{self._path}/{inside}".rstrip("/"), allow_not_found=True)
            return {entry.base_name: entry.mtime_ns or 0 for entry in self._files.get_file_info(chosen)}


def _of_environment(names: Sequence[str]) -> str:
    """The first of these variables that is set, else empty."""
    return next((value for name in names if (value := os.environ.get(name))), "")
