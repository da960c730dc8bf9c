"""Write the dashboards' JSON: `python -m grafana`."""

from grafana.generate import DIRECTORY, dashboards

for name, text in dashboards().items():
    (DIRECTORY / name).write_text(text)
