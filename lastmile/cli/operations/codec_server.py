"""`lastmile codec-server`: decrypts payloads for the Temporal UI and the `temporal` command."""

import asyncio
import signal

from lastmile.cli.connections import load_settings
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_text
from lastmile.encryption.server import CodecServer, parse_users
from lastmile.errors import InvalidInputError, UnavailableError
from lastmile.telemetry.http import serve
from lastmile.telemetry.logs import set_up_logging

__all__ = ["codec_server"]


async def codec_server() -> Exit:
    """Serve until SIGINT or SIGTERM."""
    settings = load_settings()
    if settings.key_ring is None or settings.codec_users is None:
        needed = {"LASTMILE_ENCRYPTION_KEYS": settings.key_ring, "LASTMILE_CODEC_USERS": settings.codec_users}
        raise InvalidInputError("A codec server needs:", [name for name, value in needed.items() if value is None])
    set_up_logging(settings.log_format, settings.log_level)
    server = CodecServer(settings.key_ring, parse_users(settings.codec_users.get_secret_value()), settings.codec_origin)
    try:
        http = serve(settings.codec_host, settings.codec_port, server)
    except OSError as failure:
        where = f"{settings.codec_host}:{settings.codec_port}"
        raise UnavailableError(f"LASTMILE_CODEC_PORT: {where} cannot be used: {failure.strerror}") from None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print_text(f"The codec server answers at http://{settings.codec_host}:{http.server_port}. Ctrl-C ends it.")
    if settings.codec_origin is None:
        print_text("For the `temporal` command alone: LASTMILE_CODEC_ORIGIN does not say where the Temporal UI is.")
    await stop.wait()
    http.shutdown()
    return Exit.DONE
