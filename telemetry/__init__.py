"""What Lastmile says of itself: logs, metrics, traces."""
