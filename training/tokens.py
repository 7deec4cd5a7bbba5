"""Tokens in place of card numbers: a keyed hash, so that a number cannot be found again by trying all of them.

The same key and number give the same token; without the key a token says nothing. The key is read from a file and never
written.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from training.errors import InvalidTokenKey

LEAST_BYTES: Final = 16


@dataclass(frozen=True)
class TokenKey:
    """The secret; it does not appear in its own representation."""

    secret: bytes = field(repr=False)

    def token(self, value: str) -> str:
        """Return the token of a value: ``tok_`` and 32 hexadecimal digits.

        Examples
        --------
        >>> TokenKey(b"sixteen bytes or").token("4111111111111111")
        'tok_593bc8ba...'
        """
        return "tok_" + hmac.new(self.secret, value.encode(), hashlib.sha256).hexdigest()[:32]


def read_token_key(path: Path) -> TokenKey:
    """Return the key in a file; a line break at its end does not count.

    Raises
    ------
    InvalidTokenKey
        The file is missing, or holds fewer than 16 bytes.
    """
    try:
        secret = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise InvalidTokenKey(f"{path}: {error.strerror}; make one with `openssl rand -hex 32 > {path.name}`") from None
    if len(secret) < LEAST_BYTES:
        raise InvalidTokenKey(f"{path} holds {len(secret)} bytes, at least {LEAST_BYTES} are needed")
    return TokenKey(secret)
