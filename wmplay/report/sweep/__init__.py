"""The report of a sweep: a row for each job, a line for each setting."""
