"""Write the dashboards' JSON: `python -m grafana`."""

from grafana.generate import dashboards
from grafana.queries import DIRECTORY

for name, text in dashboards().items():
    (DIRECTORY / name).write_text(text)
