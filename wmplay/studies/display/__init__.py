"""The display of a study: tables, plots and the page."""
