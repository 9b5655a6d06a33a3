"""The operations of nn made fast; chosen by device, tested against nn."""
