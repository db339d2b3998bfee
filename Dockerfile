# One image for every role: web server, worker, scanner, beat, commands.
# The digest of the index of all platforms. To update the base image, change it here.
FROM python:3.11-slim-trixie@sha256:45037981b62b34b44602584fccbc4d884d5f7dc92c7ee86bb38a698a79fe1e51

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 KCR_DATA_DIR=/data KCR_LISTEN=0.0.0.0:8080
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt \
 && groupadd --system --gid 10001 kcr \
 && useradd --system --uid 10001 --gid kcr --home-dir /data kcr \
 && install -d -o kcr -g kcr -m 0700 /data /scans/scanning \
 && install -d -o kcr -g kcr -m 0755 /scans/vulnerability-db
COPY --chown=root:root manage.py pyproject.toml ./
COPY --chown=root:root accounts accounts
COPY --chown=root:root registry registry
COPY --chown=root:root scanning scanning
COPY --chown=root:root api api
COPY --chown=root:root console console
COPY --chown=root:root templates templates
COPY --chown=root:root static static
# By number: an orchestrator that forbids root cannot tell what a name stands for.
USER 10001:10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --retries=6 --start-period=60s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=5)"]
CMD ["python", "manage.py", "serve"]
