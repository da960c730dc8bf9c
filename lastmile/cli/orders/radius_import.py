"""`lastmile import-radius`: the accounts of another FreeRADIUS database as orders that adopt their lines."""

import csv
from contextlib import ExitStack
from pathlib import Path

from lastmile.cli.connections import find_tenant, load_settings
from lastmile.cli.exit_codes import Exit
from lastmile.cli.output import print_json, print_text
from lastmile.errors import InvalidInputError
from lastmile.services.order_files.strict_json import json_line
from lastmile.services.radius_import import read_accounts

__all__ = ["import_radius"]


async def import_radius(
    url: str, *, tenant: str | None, connection_type: str, output: Path, report: Path | None, as_json: bool
) -> Exit:
    """Write the orders to `output`, and the accounts and attributes that do not fit to `report`."""
    report = report or output.with_name(f"{output.stem}.report.csv")
    tenant = await find_tenant(load_settings(), tenant)
    counts = {"orders": 0, "with_remarks": 0, "left_out": 0}
    with ExitStack() as stack:
        try:
            for file in (output, report):  # passwords and personal data: only the owner may read them
                file.unlink(missing_ok=True)
                file.touch(0o600)
            orders = stack.enter_context(output.open("wb"))
            table = csv.writer(stack.enter_context(report.open("w", newline="")), lineterminator="\n")
        except OSError as failure:
            raise InvalidInputError(f"{failure.filename} cannot be written: {failure.strerror}.") from None
        table.writerow(("username", "outcome", "what"))
        async for found in read_accounts(url, tenant, connection_type):
            if found.order is None:
                counts["left_out"] += 1
                table.writerow((found.username, "left out", found.problem))
                continue
            counts["orders"] += 1
            counts["with_remarks"] += bool(found.remarks)
            table.writerows((found.username, "differs", remark) for remark in found.remarks)
            password = found.order.password
            secret = {} if password is None else {"password": password.get_secret_value()}
            orders.write(json_line(found.order.model_dump(mode="json", exclude_defaults=True) | secret))
    if as_json:
        print_json(counts | {"file": str(output), "report": str(report)})
    else:
        print_text(
            f"{counts['orders']:,} orders written to {output}, {counts['with_remarks']:,} of them with remarks. "
            f"{counts['left_out']:,} accounts were left out. {report} has the remarks and the reasons."
        )
    return Exit.DONE
