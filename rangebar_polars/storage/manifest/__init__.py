"""The manifests of months: what the store holds of each day."""
