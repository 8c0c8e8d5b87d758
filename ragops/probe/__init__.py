"""The procedure's debug endpoint, provided by ragops: to run by itself or to mount into a backend."""
