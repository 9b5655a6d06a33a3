"""Models that predict properties: trainings, studies, predictions, errors."""
