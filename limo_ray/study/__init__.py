"""Studies: grids of curations, trainings and evaluations, compared with their intervals."""
