"""The pages of the trainings at /training/console, which Airflow shows inside its own.

app          the application: which pages there are, and how they are answered
files        the files that the pages are made of
page.html    what every page has; the rest is made in the browser, by the modules in static/
static       ES modules and style sheets as they are served, without a build step
"""

from __future__ import annotations

PREFIX = "/training/console"
