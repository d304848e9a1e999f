"""The console at /training/console: pages about training runs that Airflow embeds in its own UI.

app              the application that serves the pages and their files
page.html        the frame of every page; the modules in static/ render the rest in the browser
signed_out.html  the page for browsers without a login
static           ES modules and style sheets, served without a build step
"""

from __future__ import annotations

PREFIX = "/training/console"
