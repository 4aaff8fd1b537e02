"""The engines' own tests run in an environment of their own (`make test-integrations`)."""

collect_ignore = ["engines"]
