"""What a loss costs beside the forms of it that are used today: `python -m kdops bench`."""
