"""`python -m grafana` writes the dashboards' JSON."""

from pathlib import Path

from grafana import files


def main() -> None:
    """Write every dashboard to `grafana/dashboards/`."""
    for name, text in files().items():
        (Path(__file__).parent / "dashboards" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
