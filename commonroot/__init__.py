"""What every stage plugs into: artifacts, configuration, progress, the report and the command."""

__version__ = "0.1.0"
