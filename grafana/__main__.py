"""The command `python -m grafana`, which writes the JSON files of the dashboards."""

from grafana.generate import dashboards
from grafana.queries import DIRECTORY

for name, text in dashboards().items():
    (DIRECTORY / name).write_text(text)
