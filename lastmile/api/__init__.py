"""The REST API: routers that parse requests, call services or the client, and answer. No business rule is here."""
