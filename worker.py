"""Run a Lastmile worker, configured by the environment: `python worker.py`."""

from lastmile.worker import main

if __name__ == "__main__":
    main()
