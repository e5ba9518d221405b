"""What a sidecar says about itself: status, HTTP interface, metrics and the service manager."""
