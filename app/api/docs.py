"""The document and the page that shows it. Nothing is fetched from any other host."""

from __future__ import annotations

import orjson
from flask import Blueprint, Response, abort, render_template_string
from flask_openapi import OpenAPI
from flask_openapi_swagger.plugins import RegisterPlugin
from flask_openapi_swagger.templates import swagger_html_string

from app.api.openapi import describe
from app.api.problems import KINDS

DOCUMENT = "/openapi.json"

# The package's page names its files relative to its own folder; ours stands one step above.
_PAGE = swagger_html_string.replace('"swagger/', '"/docs/swagger/')

# Swagger UI would ask validator.swagger.io about the document.
_CONFIG = {"validatorUrl": None, "persistAuthorization": True, "displayRequestDuration": True}
_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
)


def install(app: OpenAPI) -> None:
    """Add `/openapi.json`, `/docs` and `/problems/<slug>`; call it after all other routes."""
    # Serialised here, once: the library builds the document without a lock.
    document = orjson.dumps(describe(app))
    app.config["SWAGGER_CONFIG"] = _CONFIG
    app.register_blueprint(RegisterPlugin.register(doc_url=DOCUMENT), url_prefix="/docs")
    app.register_blueprint(_blueprint(document))


def _blueprint(document: bytes) -> Blueprint:
    blueprint = Blueprint("docs", __name__)

    @blueprint.get(DOCUMENT)
    def openapi() -> Response:
        return Response(document, mimetype="application/json")

    @blueprint.get("/docs")
    def page() -> Response:
        html = render_template_string(
            _PAGE, doc_url=DOCUMENT, swagger_config=_CONFIG, oauth_config=None
        )
        return Response(html, headers={"Content-Security-Policy": _POLICY})

    @blueprint.get("/problems/<slug>")
    def problem_type(slug: str) -> Response:
        """What a problem's `type` leads to."""
        kind = KINDS.get(slug) or abort(404)
        return Response(f"{kind.title} ({kind.status})\n", mimetype="text/plain")

    return blueprint
