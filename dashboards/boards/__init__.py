"""The dashboards as they are written; `generate.py` makes Grafana's JSON of them."""
