"""KCR as real clients see it: docker, containerd, podman, buildah and skopeo against a real server."""
