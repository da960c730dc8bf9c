"""TLS of controllers over HTTP: the certificates that a client trusts, and why a handshake failed."""

import ssl

import httpx

from lastmile.devices.drivers import Endpoint
from lastmile.devices.errors import ControllerUnavailableError

__all__ = ["tls_failure", "trusted_certificates"]


def trusted_certificates(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """Return the CA certificates of the endpoint for httpx; True: those of the system.

    Raises:
        ControllerUnavailableError: the file cannot be used.
    """
    if endpoint.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=endpoint.ca_file)
    except OSError:  # also where the file is no PEM
        raise ControllerUnavailableError(
            f"The file {endpoint.ca_file} with the certificates for {endpoint.url} cannot be used: is it there, "
            "readable, and in PEM?"
        ) from None


def tls_failure(failure: httpx.ConnectError) -> str:
    """Return why TLS failed; an empty text where the connection failed before TLS."""
    cause: BaseException | None = failure
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate cannot be verified: {cause.verify_message}"
    return "TLS failed" if cause is not None else ""
