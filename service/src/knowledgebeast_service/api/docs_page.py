"""The page /docs: Swagger UI from an installed package.

The framework's own page loads its script from a foreign host, which a cluster may not reach, and which would have a
person's API key.
"""

from http import HTTPStatus
from importlib.resources import files

from fastapi import APIRouter, Response

# Only its files are used; they are Swagger UI's own, and the lock file has the checksum of the package.
PACKAGE = "fastapi_swagger.resources"
STATIC = {"swagger-ui-bundle.js": "text/javascript; charset=utf-8", "swagger-ui.css": "text/css; charset=utf-8"}
HEADERS = {
    # Swagger UI writes style attributes and draws pictures from data URLs; scripts come from files only.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>KnowledgeBeast API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/static/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/static/swagger-ui-bundle.js"></script>
<script src="docs/static/start.js"></script>
</body>
</html>
"""
# Relative addresses, so that the page works behind a proxy that adds a prefix; no validator, which is a foreign host.
START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
});
"""

router = APIRouter(include_in_schema=False)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def docs() -> Response:
    return Response(PAGE, media_type="text/html; charset=utf-8", headers=HEADERS)


@router.get("/docs/static/{name}")
async def static(name: str) -> Response:
    headers = HEADERS | {"cache-control": "public, max-age=3600"}
    if name == "start.js":
        return Response(START, media_type="text/javascript; charset=utf-8", headers=headers)
    if name not in STATIC:
        return Response(status_code=HTTPStatus.NOT_FOUND)
    content = files(PACKAGE).joinpath(name).read_bytes()
    return Response(content, media_type=STATIC[name], headers=headers)
