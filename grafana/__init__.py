"""The dashboards as code; `python -m grafana` writes the JSON files for Grafana."""
