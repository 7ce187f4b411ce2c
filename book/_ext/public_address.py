"""One value decides about the Colab, Binder, repository and issue buttons.

``public_address`` in ``_config.yml`` is the public address of the repository, such as
``https://host/owner/name``. Empty, the pages carry no button that would lead nowhere.
"""

from __future__ import annotations

LAUNCH = {
    "notebook_interface": "jupyterlab",
    "colab_url": "https://colab.research.google.com",
    "binderhub_url": "https://mybinder.org",
}


def set_buttons(app, config) -> None:
    """Give the theme its buttons, or none."""
    address = config.public_address.strip().rstrip("/")
    if not address:
        return
    options = dict(config.html_theme_options)
    options |= {"repository_url": address, "repository_branch": config.public_branch,
                "path_to_docs": "", "use_repository_button": True, "use_issues_button": True,
                "launch_buttons": LAUNCH}
    config.html_theme_options = options


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    """Leave out the scripts of sphinx-thebe: nothing here runs code in the page, they name an
    outside address, and they declare a constant twice, which is a script error on every page."""
    def of_thebe(script) -> bool:
        body = getattr(script, "attributes", {}).get("body") or ""
        return "thebe" in str(getattr(script, "filename", None) or "") or "THEBE_JS_URL" in body

    context["script_files"] = [script for script in context.get("script_files", [])
                               if not of_thebe(script)]


def setup(app) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("public_address", "", "html", [str])
    app.add_config_value("public_branch", "main", "html", [str])
    app.connect("config-inited", set_buttons, priority=1)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
