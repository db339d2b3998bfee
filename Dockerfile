# One image for every role: web server, worker, scanner, beat, commands.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 KCR_DATA_DIR=/data KCR_LISTEN=0.0.0.0:8080
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt \
 && useradd --system --uid 10001 --home-dir /data kcr \
 && install -d -o kcr -g kcr -m 0700 /data
COPY --chown=root:root manage.py pyproject.toml ./
COPY --chown=root:root accounts accounts
COPY --chown=root:root registry registry
COPY --chown=root:root scanning scanning
COPY --chown=root:root console console
COPY --chown=root:root templates templates
COPY --chown=root:root static static
USER kcr
VOLUME /data
EXPOSE 8080
CMD ["python", "manage.py", "serve"]
