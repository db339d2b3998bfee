"""Tests with real clients: docker, containerd, podman, buildah and skopeo against a real server."""
