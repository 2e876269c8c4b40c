# One image for all three services and the inbox: what it runs is the command, see docker-compose.yml.
# It needs no root, no capability and no writable file system except /data and /tmp.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
RUN python -m venv /opt/mailer
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY mailer mailer
COPY services services
RUN /opt/mailer/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt '.[fast,postgres,s3]'

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --user-group --home-dir /data --no-create-home mailer \
    && install --directory --owner=mailer --group=mailer --mode=0700 /data
COPY --from=build /opt/mailer /opt/mailer
ENV PATH=/opt/mailer/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MAILER_DATA_DIR=/data \
    MAILER_LOG_FORMAT=json
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 50051 50052 50053
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "mailer.health", "127.0.0.1:50051", "127.0.0.1:50052", "127.0.0.1:50053"]
CMD ["mailer", "up"]
