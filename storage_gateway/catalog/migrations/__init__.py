"""Changes of the schema, one file each, applied in order by `schema.prepare_schema`."""
