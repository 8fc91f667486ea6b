"""Everything under deploy/ rendered, validated and, where the part can run here, run: what `make deploy-check` does."""
