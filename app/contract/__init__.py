"""The published contract: an OpenAPI 3.1 document of every route, at `/openapi.json`, and pages to read it, at `/docs`.

The document is made of what decides the answers anyway: request bodies are the pydantic models that read them, error
codes are the rows of `app.errors.KINDS`, the agent's values are its own dataclasses. What is made as a plain dictionary
has a `TypedDict` here, which the tests hold against real answers. It does not depend on settings: one contract for all.

Not quart-schema (0.25): it would validate bodies a second time, with errors of its own; it takes the place of the
application's JSON provider and of `make_response`, through which every answer goes; it has no word for a stream's
parts, for two bodies at one address, or for codes by status; and its pages load their scripts from other hosts.
"""
